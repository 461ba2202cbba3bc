"""What `make nbval` adds to nbval."""

import kernels
import pytest


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_a_kernel_that_does_not_start_is_started_once_more(failures, monkeypatch):
    calls = []

    def start(**options):
        calls.append(options)
        if len(calls) <= failures:
            raise RuntimeError("Kernel died before replying to kernel_info")
        return "kernel"

    monkeypatch.setattr(kernels, "start", start)
    if failures == 2:
        with pytest.raises(RuntimeError, match="Kernel died"):
            kernels.start_again(cwd="here")
    else:
        assert kernels.start_again(cwd="here") == "kernel"
    assert calls == [{"cwd": "here"}] * min(failures + 1, 2)
