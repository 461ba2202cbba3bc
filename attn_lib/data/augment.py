"""Variations of the training images, a whole batch at once, on the device that holds it."""

import torch
import torch.nn.functional as F

__all__ = ["augment"]


def augment(x, *, crop=4, flip=True, cutout=0, generator=None):
    """Batch of images, each shifted, mirrored and covered in part, at random.

    Parameters
    ----------
    x : tensor, (N, C, H, W)
    crop : int
        Pixels. The image is padded by that many zeros on each side, and a window of its own size
        is cut out at random (He et al., arXiv 1512.03385, section 4.2, with 4).
    flip : bool
        Whether each image is mirrored left to right with probability 1/2.
    cutout : int
        Side, in pixels, of a square of zeros whose centre is anywhere in the image, so that part
        of it may lie outside (DeVries & Taylor, arXiv 1708.04552). 0: none.
    generator : torch.Generator, optional
        On the CPU whatever the device of x, so that a seed means the same everywhere.

    Returns
    -------
    tensor, (N, C, H, W), on the device and in the dtype of x.

    Raises
    ------
    ValueError
        x is not (N, C, H, W); crop or cutout is negative.
    """
    if x.dim() != 4:
        raise ValueError(f"expected images of shape (N, C, H, W); got shape {tuple(x.shape)}")
    if crop < 0 or cutout < 0:
        raise ValueError(f"crop and cutout count pixels: crop={crop}, cutout={cutout}")
    n, _, h, w = x.shape

    def draw(high):
        return torch.randint(high, (n, 1), generator=generator).to(x.device)

    rows = draw(2 * crop + 1) + torch.arange(h, device=x.device)  # (N, H): row of the padded image
    columns = torch.arange(w, device=x.device).expand(n, w)
    if flip:
        columns = torch.where(draw(2) == 1, w - 1 - columns, columns)
    columns = columns + draw(2 * crop + 1)
    padded = F.pad(x, (crop,) * 4).permute(0, 2, 3, 1)
    image = torch.arange(n, device=x.device)[:, None, None]
    y = padded[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if cutout:
        covered_rows = _covered(draw(h), h, cutout, x.device)
        covered_columns = _covered(draw(w), w, cutout, x.device)
        covered = covered_rows[:, None, :, None] & covered_columns[:, None, None, :]
        y = y.masked_fill(covered, 0)
    return y


def _covered(centre, length, side, device):
    """(N, length): whether a position lies among the ``side`` ones around ``centre`` (N, 1)."""
    start = centre - side // 2
    position = torch.arange(length, device=device)
    return (position >= start) & (position < start + side)
