# @title Install attn_lib: run this cell first
REPOSITORY = ""  # @param {type:"string"}

try:
    import attn_lib  # is it there already?
except ModuleNotFoundError:
    import subprocess
    import sys
    from pathlib import Path

    here, kaggle = Path(), Path("/kaggle/input")
    uploaded = [*here.glob("attn_lib-*.whl"), *kaggle.rglob("attn_lib-*.whl")]
    if not uploaded and not REPOSITORY:
        raise ModuleNotFoundError(
            "attn_lib is not installed: upload its wheel, attn_lib-....whl from the book's page "
            "'Run the chapters', beside this notebook (in Colab with the folder icon on the left), "
            "or set REPOSITORY to the address of the course, and run this cell again."
        ) from None
    source = uploaded[0].resolve().as_uri() if uploaded else f"git+{REPOSITORY}"
    # What is there already, PyTorch and NumPy above all, stays as it is.
    pip = [sys.executable, "-m", "pip", "install", "--quiet", f"attn_lib[course] @ {source}"]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            f"pip could not install attn_lib from {source}. If it says below that it cannot reach "
            "a server, switch the internet on (in Kaggle: Settings) and run this cell again, or "
            f"upload the wheel, which needs none.\n\n{done.stderr}"
        ) from None
