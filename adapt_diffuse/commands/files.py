"""Which photos a command takes, and the files that it makes of them."""

from __future__ import annotations

import sys
import tempfile
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from ..errors import AdaptDiffuseError
from ..images import find_photos, other_pictures, pictures_in


def photos_of(sources: Sequence[Path], out: Path) -> tuple[list[tuple[Path, Path]], int]:
    """The photos of all sources, each with the PNG in ``out`` that is made of it, and how many sources had none.

    Photos of the same name get -2, -3, ... . What lies in ``out`` is no photo of a folder around it. Sources without
    photos and pictures that are left out are named on stderr.

    Raises:
        AdaptDiffuseError: ``out`` cannot be a folder, or nothing be written to it, no source has a photo, or a photo or
            another file beside the photos would be overwritten.
    """
    if (file := next((path for path in (out, *out.parents) if path.is_file()), None)) is not None:
        raise AdaptDiffuseError(f"--out is a folder, but {file} is a file: choose another.")
    check_writable(out)
    photos: list[Path] = []
    missing: list[AdaptDiffuseError] = []
    for source in sources:
        say_left_out(source, other_pictures(source))
        try:
            photos += not_in(out, source, find_photos(source))
        except AdaptDiffuseError as error:
            missing.append(error)
    if not photos:
        raise missing[0]
    for reason in missing:
        print(f"adapt_diffuse: {reason}", file=sys.stderr)
    targets = targets_of(photos, out)
    check_targets(photos, targets)
    for photo in photos:
        if (count := pictures_in(photo)) > 1:
            print(f"adapt_diffuse: {photo} has {count} pictures; only the first is taken.", file=sys.stderr)
    return list(zip(photos, targets, strict=True)), len(missing)


def not_in(out: Path, source: Path, photos: list[Path]) -> list[Path]:
    """The photos of a folder without those that lie in ``out``, where that is a folder inside.

    Raises:
        AdaptDiffuseError: there are no others.
    """
    made = out.resolve()
    if source.resolve() not in made.parents:
        return photos
    others = [photo for photo in photos if made not in photo.resolve().parents]
    if not others:
        raise AdaptDiffuseError(f"The folder {source} has no photos but those in {out}.")
    return others


def check_writable(folder: Path, option: str = "--out") -> None:
    """Raise AdaptDiffuseError where no file can be made in ``folder``, or what there is of it: before the work."""
    folder = next((path for path in (folder, *folder.absolute().parents) if path.is_dir()), folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise AdaptDiffuseError(
            f"No file can be made in {folder} ({error.strerror}): choose another {option}."
        ) from None


def say_left_out(source: Path, others: Sequence[Path]) -> None:
    """One sentence on stderr on the pictures in a folder that are of kinds that are not looked for."""
    if not others:
        return
    what = "1 picture is" if len(others) == 1 else f"{len(others)} pictures are"
    names = ", ".join(path.name for path in others[:3]) + (", ..." if len(others) > 3 else "")
    print(f"adapt_diffuse: {what} left out of {source} ({names}): save as JPEG, PNG or TIFF first.", file=sys.stderr)


def targets_of(photos: Sequence[Path], out: Path) -> list[Path]:
    """A PNG in ``out`` for each photo; those of the same name get -2, -3, ... ."""
    targets: list[Path] = []
    taken: set[str] = set()
    for photo in photos:
        target, number = out / f"{photo.stem}.png", 1
        while same_file_name(target.name) in taken:
            number += 1
            target = out / f"{photo.stem}-{number}.png"
        taken.add(same_file_name(target.name))
        targets.append(target)
    return targets


def check_targets(photos: Sequence[Path], targets: Sequence[Path]) -> None:
    """Raise AdaptDiffuseError where a target is a photo, or in a folder of the photos and there already."""
    originals, homes = {identity(photo) for photo in photos}, {identity(photo.resolve().parent) for photo in photos}
    there = [target.resolve() for target in targets if target.exists()]
    lost = [path for path in there if identity(path) in originals or identity(path.parent) in homes]
    if lost:
        raise AdaptDiffuseError(
            f"{min(lost)} is among the photos and would be overwritten: choose another --out, a folder apart from them."
        )


def identity(path: Path) -> tuple[int, int] | Path:
    """What two names of one file or folder have in common, on disks that take A for a, too."""
    state = path.stat()
    return (state.st_dev, state.st_ino) if state.st_ino else path.resolve()


def same_file_name(name: str) -> str:
    """Equal for names that are one file to Windows or macOS: A and a, é in one character and in two."""
    return unicodedata.normalize("NFC", name).casefold()


def check_report(report: Path | None, photos: Sequence[tuple[Path, Path]]) -> None:
    """Raise AdaptDiffuseError where the report cannot be written, or would replace a photo or what is made of it."""
    if report is None:
        return
    if report.is_dir():
        raise AdaptDiffuseError(f"{report} is a folder: choose a file for the report.")
    check_writable(report.parent, "--report")
    originals = {identity(photo) for photo, _ in photos}
    lost = report.exists() and identity(report) in originals
    if lost or report.resolve() in {path.resolve() for pair in photos for path in pair}:
        raise AdaptDiffuseError(f"{report} is a photo: choose another file for the report.")
