"""CIFAR-10's archive, its cache and its accidents; folders of the learner's own images."""

import hashlib
import http.server
import io
import shutil
import tarfile
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from attn_lib import data
from attn_lib.data import images

FILES = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]


@pytest.fixture(scope="module")
def batches():
    """Six files as the official archive has them, with pixels that are easy to recognise."""
    made = {}
    for number, name in enumerate(FILES):
        records = np.zeros((10_000, 3073), np.uint8)
        records[:, 0] = (np.arange(10_000) + number) % 10
        records[:, 1:] = 10 * number
        records[0, 1], records[0, 2], records[0, 1 + 32], records[0, 1 + 1024] = 1, 2, 3, 4
        made[name] = records.tobytes()
    return made


@pytest.fixture
def cache(tmp_path, batches):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name, content in batches.items():
        (folder / name).write_bytes(content)
    return tmp_path


@pytest.fixture
def website(monkeypatch, batches):
    """A server on this machine in the place of the official one; ``website.archive`` is sent."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for name, content in batches.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.requests += 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.server.archive)))
            self.end_headers()
            self.wfile.write(self.server.archive[: self.server.sent])

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.archive, server.sent, server.requests = buffer.getvalue(), None, 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(images, "_URL", f"http://127.0.0.1:{server.server_port}/archive.tar.gz")
    monkeypatch.setattr(images, "_SHA256", hashlib.sha256(server.archive).hexdigest())
    yield server
    server.shutdown()
    server.server_close()


def test_records_become_images(cache):
    split = data.cifar10(root=cache)
    assert split.x_train.shape == (50_000, 3, 32, 32) and split.x_test.shape == (10_000, 3, 32, 32)
    assert split.x_train.dtype == torch.float32 and split.y_train.dtype == torch.int64
    first = split.x_train[0] * 255  # channel, row, column
    corner = [first[0, 0, 0], first[0, 0, 1], first[0, 1, 0], first[1, 0, 0]]
    assert [round(v.item()) for v in corner] == [1, 2, 3, 4]
    assert split.x_test[5, 2, 9, 9].item() == pytest.approx(50 / 255)
    assert split.y_train[10_000:10_003].tolist() == [1, 2, 3]
    assert data.CIFAR10_CLASSES[3] == "cat" and len(data.CIFAR10_CLASSES) == 10
    assert data.cifar10(torch.float16, root=cache).x_test.dtype == torch.float16


def test_the_cache_is_where_the_environment_says(cache, monkeypatch, website):
    monkeypatch.setenv("ATTN_LIB_DATA", str(cache))
    assert len(data.cifar10().x_test) == 10_000
    assert website.requests == 0


def test_downloaded_once(tmp_path, website):
    root = tmp_path / "new" / "cache"
    one, two = data.cifar10(root=root), data.cifar10(root=root)
    assert torch.equal(one.x_train, two.x_train) and website.requests == 1
    assert [entry.name for entry in root.iterdir()] == ["cifar-10-batches-bin"]  # nothing else


def test_a_truncated_download_leaves_nothing(tmp_path, website):
    website.sent = len(website.archive) // 2
    with pytest.raises(
        (ConnectionError, ValueError), match="[Tt]ry again|Call cifar10\\(\\) again"
    ):
        data.cifar10(root=tmp_path)
    assert list(tmp_path.iterdir()) == []
    website.sent = None
    assert len(data.cifar10(root=tmp_path).y_test) == 10_000


def test_another_file_than_the_official_one(tmp_path, website):
    website.archive = b"<html>please log in to this network</html>"
    with pytest.raises(ValueError, match="is not the official archive.*has been deleted"):
        data.cifar10(root=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_network(tmp_path, website):
    website.shutdown()
    website.server_close()
    with pytest.raises(ConnectionError, match="unpack it so that .*cifar-10-batches-bin exists"):
        data.cifar10(root=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda path: path.unlink(), "data_batch_3.bin is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-7]), "30,729,993 bytes instead of"),
        (lambda path: path.write_bytes(b"\x0b" + path.read_bytes()[1:]), "record 0 has label 11"),
    ],
)
def test_a_damaged_cache_says_what_to_delete(cache, damage, message):
    damage(cache / "cifar-10-batches-bin" / "data_batch_3.bin")
    with pytest.raises(ValueError, match=message) as error:
        data.cifar10(root=cache)
    assert f"Delete the folder {cache / 'cifar-10-batches-bin'}" in str(error.value)


# image_folder


def save(path, colour, size=(12, 8), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


@pytest.fixture
def folder(tmp_path):
    for i in range(10):
        save(tmp_path / "red" / f"{i}.png", (200 + i, 0, 0))
        save(tmp_path / "blue" / f"{i}.jpg", (0, 0, 200 + i))
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "red" / ".thumbnails").write_text("no image")
    return tmp_path


def test_folder(folder):
    split, classes = data.image_folder(folder, size=16, test_share=0.3)
    assert classes == ("blue", "red")
    assert split.x_train.shape == (14, 3, 16, 16) and split.x_test.shape == (6, 3, 16, 16)
    assert torch.bincount(split.y_test).tolist() == [3, 3]
    red = split.x_test[split.y_test == 1]
    assert (red[:, 0] > 0.78).all() and (red[:, 1:] == 0).all()
    together = torch.cat((split.x_train, split.x_test))[:, 0, 0, 0]
    assert len(together[together > 0.7].unique()) == 10  # every image once, in one of the parts
    again, _ = data.image_folder(folder, size=16, test_share=0.3)
    other, _ = data.image_folder(folder, size=16, test_share=0.3, seed=1)
    assert torch.equal(again.x_test, split.x_test) and not torch.equal(other.x_test, split.x_test)


def test_folder_divided_by_its_owner(tmp_path):
    for part, count in (("train", 3), ("val", 2)):
        for name in ("cat", "dog"):
            for i in range(count):
                save(tmp_path / part / name / f"{i}.png", (i, 0, 0))
    split, classes = data.image_folder(tmp_path, size=8)
    assert classes == ("cat", "dog")
    assert split.y_train.tolist() == [0, 0, 0, 1, 1, 1] and split.y_test.tolist() == [0, 0, 1, 1]
    save(tmp_path / "test" / "cat" / "0.png", (0, 0, 0))
    save(tmp_path / "test" / "dog" / "0.png", (0, 0, 0))
    three, _ = data.image_folder(tmp_path, size=8)  # with a part for the learner's own choices
    assert len(three.y_train) == 6 and three.y_test.tolist() == [0, 1]
    shutil.rmtree(tmp_path / "test")
    save(tmp_path / "val" / "fish" / "0.png", (0, 0, 0))
    with pytest.raises(ValueError, match="only one of train and val: fish"):
        data.image_folder(tmp_path)


def divided(root, *parts, classes=("cat", "dog")):
    """Parts of a folder with two images a class; the part's position is their shade."""
    for position, part in enumerate(parts):
        for name in classes:
            for i in range(2):
                save(root / part / name / f"{i}.png", (50 * position,) * 3)
    return root


@pytest.mark.parametrize(
    "parts, tested",
    [
        (("train", "valid"), "valid"),
        (("train", "val"), "val"),
        (("train", "test"), "test"),
        (("training", "validation"), "validation"),
        (("Training", "Testing"), "Testing"),  # as many sets on Kaggle
        (("train", "valid", "test"), "test"),  # Roboflow's export
        (("train", "validation", "test"), "test"),
    ],
)
def test_parts_under_other_names(tmp_path, parts, tested):
    divided(tmp_path, *parts)
    (tmp_path / "README.roboflow.txt").write_text("exported")
    split, classes = data.image_folder(tmp_path, size=8)
    assert classes == ("cat", "dog") and len(split.y_train) == len(split.y_test) == 4
    assert (split.x_train == 0).all()
    assert split.x_test.unique().item() == pytest.approx(50 * parts.index(tested) / 255)


def test_parts_whose_test_has_no_classes(tmp_path):
    """As in a competition: the images to test on have no labels, those of the third part do."""
    divided(tmp_path, "train", "val")
    save(tmp_path / "test" / "0.png", (200, 200, 200))
    split, _ = data.image_folder(tmp_path, size=8)
    assert split.x_test.unique().item() == pytest.approx(50 / 255)
    shutil.rmtree(tmp_path / "val")
    with pytest.raises(ValueError, match="test needs a subfolder for each of two or more classes"):
        data.image_folder(tmp_path, size=8)


def test_a_class_may_have_the_name_of_a_part(tmp_path):
    for name in ("bus", "test", "train"):
        for i in range(2):
            save(tmp_path / name / f"{i}.png", (i, 0, 0))
    assert data.image_folder(tmp_path, size=8)[1] == ("bus", "test", "train")
    (tmp_path / "train" / "more").mkdir()
    shutil.rmtree(tmp_path / "test")
    assert data.image_folder(tmp_path, size=8)[1] == ("bus", "train")


@pytest.mark.parametrize(
    "parts, message",
    [
        (("train", "dev"), "class 'dev' of .* has no image.*called train or training, and test,"),
        (("train",), "it has 1. The parts .*of one part alone, give its own path"),
        (("test", "valid"), "class 'test' of .* has no image.*called train or training"),
        (("train", "test", "extra"), "divided into train, test, and has extra beside them"),
        (("train", "Training", "test"), "Training, train, which mean the same"),
        (("train", "val", "valid"), "val, valid, which mean the same"),
    ],
)
def test_parts_that_are_not_understood(tmp_path, parts, message):
    divided(tmp_path, *parts)
    with pytest.raises(ValueError, match=message):
        data.image_folder(tmp_path)


def test_images_of_every_kind(tmp_path):
    wide = Image.fromarray(np.repeat(np.arange(40, dtype=np.uint8)[None], 10, 0))
    for name in ("a", "b"):
        save(tmp_path / name / "palette.gif", 3, mode="P")
        save(tmp_path / name / "transparent.png", (9, 9, 9, 0), mode="RGBA")
        wide.save(tmp_path / name / "wide.png")
        turned = Image.new("RGB", (8, 8))
        turned.paste((255, 255, 255), (0, 0, 8, 4))  # the upper half is white
        exif = turned.getexif()
        exif[0x0112] = 3  # shown turned by 180 degrees
        turned.save(tmp_path / name / "z_turned.png", exif=exif)
    split, _ = data.image_folder(tmp_path, size=8, test_share=0.01)
    x = torch.cat((split.x_train, split.x_test))
    assert x.shape == (8, 3, 8, 8)
    flat = [image for image in x if image[0].std() > 0.2]
    assert all(image[0, 0, 0] == 0 and image[0, -1, 0] == 1 for image in flat) and len(flat) == 2
    middle = [image for image in x if 0 < image[0].std() < 0.2]  # of the 40 columns
    assert all(13 / 255 < image.mean() < 27 / 255 for image in middle) and len(middle) == 2


def test_sixteen_bits_become_eight(tmp_path):
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    for name in ("a", "b"):
        for i in range(2):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(ramp).save(tmp_path / name / f"{i}.png")
    split, _ = data.image_folder(tmp_path, size=8)
    wanted = torch.from_numpy(ramp.astype(np.float32)) / 65535
    assert (split.x_train[0] - wanted).abs().max() < 1 / 200
    Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / "a" / "floats.tiff")
    with pytest.raises(ValueError, match="floats.tiff .its pixels have mode F: save it with 8"):
        data.image_folder(tmp_path, size=8)


def test_broken_images_are_named(folder):
    (folder / "red" / "holiday.jpg").write_text("no image")
    whole = (folder / "blue" / "3.jpg").read_bytes()
    (folder / "blue" / "3.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="2 of 21 files cannot be read") as error:
        data.image_folder(folder)
    assert "holiday.jpg" in str(error.value) and "3.jpg" in str(error.value)


@pytest.mark.parametrize(
    "make, options, error, message",
    [
        (lambda p: None, {}, ValueError, "two or more classes; it has 0"),
        (lambda p: save(p / "a" / "1.png", (0, 0, 0)), {}, ValueError, "it has 1"),
        (
            lambda p: [save(p / n / "1.png", (0, 0, 0)) for n in "ab"],
            {},
            ValueError,
            "'a' needs two images",
        ),
        (
            lambda p: (save(p / "a" / "1.png", (0, 0, 0)), (p / "b").mkdir()),
            {},
            ValueError,
            "class 'b' .* has no image",
        ),
        (lambda p: None, {"size": 0}, ValueError, "size must be an integer of at least 1; got 0"),
        (
            lambda p: [save(p / n / f"{i}.png", (0, 0, 0)) for n in "ab" for i in range(2)],
            {"size": 10**7},
            ValueError,
            "4 images of 10000000x10000000 pixels do not fit into memory",
        ),
        (lambda p: None, {"size": 8.5}, TypeError, "size must be an integer .*; got 8.5"),
        (
            lambda p: [save(p / n / "1.png", (0, 0, 0)) for n in "ab"],
            {"test_share": float("nan")},
            ValueError,
            "between 0 and 1; got nan",
        ),
        (lambda p: p.rmdir(), {}, FileNotFoundError, "is not a folder"),
        (
            lambda p: [save(p / n / "1.png", (0, 0, 0)) for n in "ab"],
            {"test_share": 1.5},
            ValueError,
            "between 0 and 1; got 1.5",
        ),
    ],
)
def test_what_a_folder_must_be(tmp_path, make, options, error, message):
    make(tmp_path)
    with pytest.raises(error, match=message):
        data.image_folder(tmp_path, **options)
