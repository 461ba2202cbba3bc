"""For `make nbval`: a kernel that does not start is started once more.

Two kernels that start at once may get one port.
"""

import nbval.kernel

start = nbval.kernel.start_new_kernel


def start_again(*args, **options):
    try:
        return start(*args, **options)
    except RuntimeError:
        return start(*args, **options)


nbval.kernel.start_new_kernel = start_again
