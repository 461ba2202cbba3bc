"""Where a notebook keeps its checkpoints."""

from pathlib import Path

__all__ = ["keep_folder"]

_DRIVE = Path("/content/drive")


def keep_folder(name):
    """Folder for checkpoints that is still there when the notebook is opened again.

    Colab's own disk goes with its runtime, so there it is a folder on Google Drive, which is
    mounted; Colab asks for the permission. Where that is refused, the folder is on Colab's disk,
    and a sentence says so. Elsewhere it lies beside the notebook.

    Parameters
    ----------
    name : str
        Name of the folder.

    Returns
    -------
    pathlib.Path
        It exists.
    """
    folder = Path(name)
    try:
        from google.colab import drive
    except ImportError:
        drive = None
    if drive is not None:
        try:
            drive.mount(str(_DRIVE))
            folder = _DRIVE / "MyDrive" / name
        except Exception as error:  # refused, or timed out: of no documented class
            print(f"Google Drive is not mounted ({error}); {name}/ goes with this runtime.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
