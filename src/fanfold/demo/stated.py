"""Fields that a distribution's metadata states: cheap, a file or two each."""

from __future__ import annotations

import re
from typing import Final

from fanfold.demo.distribution import Distribution, ListedFile, canonical, find
from fanfold.model import Json
from fanfold.outcome import Reject

_LICENCE_FILE: Final = re.compile(r"(?i)(licen[cs]e|copying)")


def opened(task_config: dict[str, Json]) -> Distribution:
    """The distribution that a task is about. Rejects where it isn't installed any more."""
    name = task_config["distribution"]
    distribution = find(name)
    if distribution is None:
        raise Reject(f"{name} isn't installed any more")
    return distribution


def listed(distribution: Distribution) -> list[ListedFile]:
    """Its files. Rejects where the installer left no list, or one that doesn't have them."""
    if distribution.editable():
        raise Reject(f"{distribution} is installed in place (editable): its RECORD doesn't list its files")
    files = distribution.files()
    if files is None:
        raise Reject(f"{distribution} has no RECORD: its installer left no list of files")
    return files


def name_and_version(task_config: dict[str, Json]) -> Json:
    """As METADATA spells them."""
    stated = opened(task_config).stated
    return {"name": stated.name, "version": stated.version}


def summary(task_config: dict[str, Json]) -> Json:
    """The one-line summary."""
    return _header(opened(task_config), "Summary")


def licence(task_config: dict[str, Json]) -> Json:
    """From License-Expression, classifiers, License, or the name of a licence file, in this order."""
    distribution = opened(task_config)
    if expression := distribution.header("License-Expression"):
        return {"licence": expression, "source": "License-Expression"}
    if classifiers := distribution.classifiers("License"):
        return {"licence": "; ".join(c.split(" :: ")[-1] for c in classifiers), "source": "Classifier"}
    if text := distribution.header("License"):
        return {"licence": text.splitlines()[0], "source": "License"}
    files = [file.path for file in distribution.files() or () if _LICENCE_FILE.search(file.name)]
    if files:
        return {"licence": f"see {files[0]}", "source": "file"}
    raise Reject(f"{distribution} states no licence: no License-Expression, classifier, License or licence file")


def supported_pythons(task_config: dict[str, Json]) -> Json:
    """Requires-Python, and the versions that the classifiers name."""
    distribution = opened(task_config)
    requires = distribution.header("Requires-Python")
    named = [v for v in distribution.classifiers("Programming Language :: Python") if v[0].isdigit()]
    if requires is None and not named:
        raise Reject(f"{distribution} states no supported Python: no Requires-Python, no classifier")
    return {"requires": requires, "classifiers": named}


def dependency_count(task_config: dict[str, Json]) -> Json:
    """Requirements in all, and those that only an extra asks for."""
    requirements = opened(task_config).requirements()
    optional = sum("extra ==" in requirement for requirement in requirements)
    return {"required": len(requirements) - optional, "optional": optional}


def missing_dependencies(task_config: dict[str, Json]) -> Json:
    """Unconditional requirements that aren't installed here."""
    plain = [r for r in opened(task_config).requirements() if ";" not in r]
    names = [re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0] for requirement in plain]
    return [canonical(name) for name in names if find(name) is None]


def extras(task_config: dict[str, Json]) -> Json:
    """Names of the extras."""
    distribution = opened(task_config)
    return distribution.headers("Provides-Extra") or _lacks(distribution, "extras (Provides-Extra)")


def entry_points(task_config: dict[str, Json]) -> Json:
    """Names of the entry points by group."""
    distribution = opened(task_config)
    return distribution.entry_points() or _lacks(distribution, "entry points (entry_points.txt)")


def authors(task_config: dict[str, Json]) -> Json:
    """Authors and maintainers, as they are written."""
    distribution = opened(task_config)
    headers = ("Author", "Author-email", "Maintainer", "Maintainer-email")
    found = [value for header in headers for value in distribution.headers(header)]
    return found or _lacks(distribution, "author or maintainer")


def project_urls(task_config: dict[str, Json]) -> Json:
    """Addresses by label."""
    distribution = opened(task_config)
    pairs = [value.partition(",") for value in distribution.headers("Project-URL")]
    urls = {label.strip(): url.strip() for label, _, url in pairs}
    if home := distribution.header("Home-page"):
        urls.setdefault("Home-page", home)
    return urls or _lacks(distribution, "address (Project-URL, Home-page)")


def installer(task_config: dict[str, Json]) -> Json:
    """What installed it."""
    distribution = opened(task_config)
    return (distribution.text("INSTALLER") or "").strip() or _lacks(distribution, "INSTALLER file")


def wheel_tags(task_config: dict[str, Json]) -> Json:
    """The tags of the wheel that it came as."""
    distribution = opened(task_config)
    wheel = distribution.wheel()
    return (wheel.get_all("Tag") if wheel else None) or _lacks(distribution, "wheel tags (no WHEEL file)")


def top_level_modules(task_config: dict[str, Json]) -> Json:
    """Modules and packages that it puts on the path."""
    distribution = opened(task_config)
    found = set()
    for file in listed(distribution):
        first = file.parts[0]
        if file.suffix == ".py" and not first.endswith((".dist-info", ".egg-info")) and first not in ("..", "/"):
            found.add(first.removesuffix(".py"))
    return sorted(found) or _lacks(distribution, "Python modules")


def typed(task_config: dict[str, Json]) -> Json:
    """Whether it ships type information: a py.typed marker or stubs."""
    files = listed(opened(task_config))
    return {"py_typed": any(f.name == "py.typed" for f in files), "stubs": sum(f.suffix == ".pyi" for f in files)}


def native_code(task_config: dict[str, Json]) -> Json:
    """Compiled extension modules and libraries."""
    distribution = opened(task_config)
    found = [file.path for file in listed(distribution) if file.suffix in (".so", ".pyd", ".dylib", ".dll")]
    return found[:20] or _lacks(distribution, "native code (.so, .pyd, .dylib, .dll)")


def _header(distribution: Distribution, name: str) -> str:
    return distribution.header(name) or _lacks(distribution, name)


def _lacks(distribution: Distribution, what: str) -> str:
    raise Reject(f"{distribution} has no {what}")
