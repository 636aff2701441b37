"""Images of a folder, and folders of Debian's packages."""

import hashlib
import json
import os
import pathlib
import subprocess
import tarfile


def pack(root, image, name, config=None):
    """Writes the folder `root` as the image `name` to the file `image`, as `docker save` would; `config` is its process's."""
    with open(image + ".layer", "wb") as layer:
        subprocess.run(["tar", "-c", "--numeric-owner", "-C", root, "."], stdout=layer, check=True)
    with open(image + ".layer", "rb") as layer:
        digest = hashlib.file_digest(layer, "sha256").hexdigest()
    architecture = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()
    files = {
        "config.json": {"architecture": architecture, "os": "linux", "config": config or {},
                        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest]}},
        "manifest.json": [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}],
    }
    with tarfile.open(image, "w") as archive:
        for file, value in files.items():
            pathlib.Path(image + ".json").write_text(json.dumps(value))
            archive.add(image + ".json", file)
        archive.add(image + ".layer", "layer.tar")
    os.remove(image + ".layer")
    os.remove(image + ".json")
    return image


def apt(*args):
    subprocess.run(["apt-get", "-qq", "-y", "--no-install-recommends", *args], check=True, stdout=subprocess.DEVNULL,
                   env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


def debian_root(folder, packages):
    """Unpacks packages, and all that they depend on, into folder/root, and gives that; their scripts are not run."""
    root = pathlib.Path(folder, "root")
    for name in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "usr/lib32", "dev", "proc", "sys", "run", "tmp", "root", "etc",
                 "var"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    for name in ("bin", "sbin", "lib", "lib64", "lib32"):
        (root / name).symlink_to("usr/" + name)
    (root / "var/run").symlink_to("../run")
    # As if nothing were installed: so all that they depend on is fetched, too.
    debs = pathlib.Path(folder, "debs")
    (debs / "partial").mkdir(parents=True)
    status = pathlib.Path(folder, "status")
    status.touch()
    apt("--download-only", "-o", f"Dir::State::status={status}", "-o", f"Dir::Cache::archives={debs}",
        "-o", "APT::Sandbox::User=root", "install", *packages)
    for deb in debs.glob("*.deb"):
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as unpacked:
            subprocess.run(["tar", "-x", "-C", root, "--keep-directory-symlink"], stdin=unpacked.stdout, check=True)
        deb.unlink()
    (root / "bin/sh").unlink(missing_ok=True)
    (root / "bin/sh").symlink_to("bash")
    return root


def write_files(root, files):
    """Makes executable files of {path: text} below a folder."""
    for name, text in files.items():
        file = pathlib.Path(root, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)
