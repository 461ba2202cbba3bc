"""What every data set of the course is: images and labels to train on and to test on."""

from typing import NamedTuple

import torch

__all__ = ["Split"]


class Split(NamedTuple):
    """Images (N, C, H, W) and labels (N,) to train on and to test on."""

    x_train: torch.Tensor
    y_train: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor

    def to(self, *args, **kwargs):
        """Same split, images converted and everything moved, as ``torch.Tensor.to`` does."""
        x_train, x_test = self.x_train.to(*args, **kwargs), self.x_test.to(*args, **kwargs)
        y_train, y_test = self.y_train.to(x_train.device), self.y_test.to(x_test.device)
        return Split(x_train, y_train, x_test, y_test)

    def scale(self):
        """Mean and standard deviation of each channel over the training images: two tensors, (C,).

        Whoever shows other images to a network that was trained on ``standardised()`` needs them.
        """
        deviation, mean = torch.std_mean(self.x_train, (0, 2, 3), correction=0)
        return mean, deviation

    def standardised(self):
        """Same split, each channel shifted and scaled to mean 0 and standard deviation 1.

        Mean and deviation are those of the training images, for both parts.
        """
        mean, deviation = (value[:, None, None] for value in self.scale())
        if (deviation == 0).any():
            raise ValueError("a channel of the training images is constant: nothing to scale")
        return self._replace(
            x_train=(self.x_train - mean) / deviation, x_test=(self.x_test - mean) / deviation
        )
