"""The image that those under test are built on: pulled or made here, with this machine's pip settings."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from support.compose import ROOT
from support.docker_engine import docker, layers_of, left, remove_images_upon, run

# In the image.
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
WHEELS = "/usr/local/share/wheels"

# Bookworm's Python is the one of the shipped default.
DEBIAN = "bookworm"
PYTHON = "3.11"

# What pip is told of its index; where wheels and certificates lie is another place in the image.
_PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "default-timeout", "timeout")
_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"


class NoBaseError(Exception):
    """No image to build on can be had here; the message says why."""


@dataclass(frozen=True, slots=True)
class Base:
    """An image to build on."""

    name: str
    origin: str  # for people: where it comes from
    ours: bool  # it was not there before, so it is removed in the end


def find_base(name: str, default: str, directory: Path) -> Base:
    """The default where it is or can be pulled, else a bare Debian called `name`. Raises `NoBaseError`."""
    if docker("images", "--quiet", default):
        return Base(default, f"{default}, as it was here", ours=False)
    refusal = docker("pull", "--quiet", default, check=False)
    if docker("images", "--quiet", default):
        return Base(default, f"{default}, pulled", ours=True)
    refusal = " ".join(refusal.split())[-200:]
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        raise NoBaseError(f"{default} cannot be pulled ({refusal}), and debootstrap needs itself and root")
    _debootstrap(name, directory)
    return Base(name, f"Debian {DEBIAN} by debootstrap, as {default} cannot be pulled: {refusal}", ours=True)


def _debootstrap(name: str, directory: Path) -> None:
    root = directory / "root"
    packages = "--include=python3,python3-venv,ca-certificates"
    try:
        run(["debootstrap", "--variant=minbase", packages, DEBIAN, str(root)])
        needless = ["--exclude=./var/cache/apt/archives/*.deb", "--exclude=./var/lib/apt/lists/*"]
        pack = ["tar", "-C", str(root), *needless, "-c", "."]
        with subprocess.Popen(pack, stdout=subprocess.PIPE) as packed:
            docker("import", "--change", 'CMD ["bash"]', "-", name, stdin=packed.stdout)
    finally:
        shutil.rmtree(root, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all images under test are built on, and by that everything that is made in a test run."""

    project: str  # compose's name for it, with which all names begin
    base: str
    layers: list[str]  # the base's, with which all images begin

    def left(self) -> dict[str, list[str]]:
        """What there is of it in the Docker engine, by kind; see `docker_engine.left`."""
        return left(self.project, self.layers)

    def remove_images(self) -> None:
        """All of them, the base included."""
        remove_images_upon(self.layers)


def make_workshop(project: str, base: str, directory: Path) -> Workshop:
    """Makes an image of `base` whose pip finds what pip finds here.

    That is how a site that builds behind a mirror does it too: its own base, and the Dockerfiles as they are.
    """
    name = f"{project}-base"
    wheels = directory / "wheels"
    wheels.mkdir()
    _fetch_torch(wheels)
    settings = pip_settings(run([sys.executable, "-m", "pip", "config", "list"]))
    lines = ["FROM " + base, f"COPY wheels {WHEELS}", "COPY pip.conf /etc/pip.conf"]
    certificates = settings.pop("cert", None) or os.environ.get("SSL_CERT_FILE")
    if certificates:
        shutil.copyfile(certificates, directory / "certificates")
        settings["cert"] = CERTIFICATES
        lines.append(f"COPY certificates {CERTIFICATES}")
    (directory / "pip.conf").write_text(pip_conf({**settings, "find-links": WHEELS}))
    (directory / "Dockerfile").write_text("\n".join(lines) + "\n")
    docker("build", "--quiet", "--tag", name, str(directory))
    return Workshop(project, name, layers_of(name))


def pip_settings(listed: str) -> dict[str, str]:
    """What `pip config list` tells of the index and of certificates, without folders of this machine."""
    found = re.findall(r"^(\S+?)\.([a-z-]+)=(.+)$", listed, re.MULTILINE)
    # The environment wins over files.
    in_order = sorted(found, key=lambda entry: entry[0] == ":env:")
    settings = {key: str(ast.literal_eval(value)) for _, key, value in in_order}
    kept = {key: settings[key] for key in (*_PIP_SETTINGS, "cert") if key in settings}
    if extra := kept.pop("extra-index-url", ""):
        remote = [url for url in extra.split() if not url.startswith("file:")]
        kept |= {"extra-index-url": " ".join(remote)} if remote else {}
    return kept


def pip_conf(settings: Mapping[str, str]) -> str:
    """The text of a pip.conf."""
    return "[global]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items())


def _fetch_torch(wheels: Path) -> None:
    """From where `make setup` takes it: nothing is downloaded where pip has it already.

    Where even that fails the image's build tries by itself, and says what is wrong.
    """
    fetch = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(wheels)]
    fetch += ["--only-binary=:all:", "--python-version", PYTHON]
    fetch += ["--requirement", str(ROOT / "requirements" / "torch-cpu.txt")]
    for index in ([], ["--index-url", _TORCH_INDEX]):
        run([*fetch, *index], check=False)
        if list(wheels.iterdir()):
            return
