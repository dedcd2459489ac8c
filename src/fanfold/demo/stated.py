"""Fields that a distribution's metadata states: cheap, a file or two each."""

from __future__ import annotations

import re
from typing import Final, NoReturn

from fanfold.demo.distribution import Distribution
from fanfold.demo.environment import everything, named, opened
from fanfold.demo.requirement import Requirement, canonical
from fanfold.model import Json
from fanfold.outcome import Reject

_LICENCE_FILE: Final = re.compile(r"(?i)(licen[cs]e|copying)")
_REFERENCE: Final = re.compile(r"[\w.]+\s*(:\s*[\w.]+)?\s*(\[.*\])?")
"""An entry point's object reference: `module`, `module:object`, either with extras."""


def name_and_version(task_config: dict[str, Json]) -> Json:
    """As METADATA spells them."""
    distribution = opened(task_config)
    return {"name": distribution.name, "version": distribution.version}


def summary(task_config: dict[str, Json]) -> Json:
    """The one-line summary."""
    distribution = opened(task_config)
    return distribution.header("Summary") or lacks(distribution, "Summary")


def readme(task_config: dict[str, Json]) -> Json:
    """How long the long description is, and in which format."""
    distribution = opened(task_config)
    text = distribution.description() or lacks(distribution, "long description")
    return {"words": len(text.split()), "format": distribution.header("Description-Content-Type") or "text/x-rst"}


def licence(task_config: dict[str, Json]) -> Json:
    """From License-Expression, classifiers, License, or the name of a licence file, in this order."""
    distribution = opened(task_config)
    if expression := distribution.header("License-Expression"):
        return {"licence": expression, "source": "License-Expression"}
    if classifiers := distribution.classifiers("License"):
        return {"licence": "; ".join(c.split(" :: ")[-1] for c in classifiers), "source": "Classifier"}
    if text := distribution.header("License"):
        return {"licence": text.splitlines()[0], "source": "License"}
    files = [file.path for file in distribution.files() if _LICENCE_FILE.search(file.name)]
    if files:
        return {"licence": f"see {files[0]}", "source": "file"}
    raise Reject(f"{distribution} states no licence: no License-Expression, classifier, License or licence file")


def supported_pythons(task_config: dict[str, Json]) -> Json:
    """Requires-Python, and the versions that the classifiers name."""
    distribution = opened(task_config)
    requires = distribution.header("Requires-Python")
    versions = [v for v in distribution.classifiers("Programming Language :: Python") if v[0].isdigit()]
    if requires is None and not versions:
        raise Reject(f"{distribution} states no supported Python: no Requires-Python, no classifier")
    return {"requires": requires, "classifiers": versions}


def development_status(task_config: dict[str, Json]) -> Json:
    """How finished it calls itself, such as `5 - Production/Stable`."""
    distribution = opened(task_config)
    found = distribution.classifiers("Development Status")
    return found[0] if found else lacks(distribution, "Development Status classifier")


def keywords(task_config: dict[str, Json]) -> Json:
    """Keywords: METADATA parts them with commas, old ones with spaces."""
    distribution = opened(task_config)
    text = distribution.header("Keywords") or lacks(distribution, "Keywords")
    return [word.strip() for word in text.split("," if "," in text else None) if word.strip()]


def authors(task_config: dict[str, Json]) -> Json:
    """Authors and maintainers, as they are written."""
    distribution = opened(task_config)
    headers = ("Author", "Author-email", "Maintainer", "Maintainer-email")
    found = [value for header in headers for value in distribution.headers(header)]
    return found or lacks(distribution, "author or maintainer")


def project_urls(task_config: dict[str, Json]) -> Json:
    """Addresses by label."""
    distribution = opened(task_config)
    pairs = [value.partition(",") for value in distribution.headers("Project-URL")]
    urls = {label.strip(): url.strip() for label, _, url in pairs}
    if home := distribution.header("Home-page"):
        urls.setdefault("Home-page", home)
    return urls or lacks(distribution, "address (Project-URL, Home-page)")


def dependency_count(task_config: dict[str, Json]) -> Json:
    """Requirements: those always wanted, those under some condition of the environment, those of an extra."""
    requirements = opened(task_config).requirements()
    optional = sum(requirement.optional for requirement in requirements)
    always = sum(not requirement.marker for requirement in requirements)
    return {"always": always, "conditional": len(requirements) - always - optional, "optional": optional}


def missing_dependencies(task_config: dict[str, Json]) -> Json:
    """Unconditional requirements that aren't installed beside it."""
    plain = [requirement.key for requirement in opened(task_config).requirements() if not requirement.marker]
    return [key for key in plain if not any(named(key, task_config.get("folder")))]


def dependents(task_config: dict[str, Json]) -> Json:
    """The distributions installed beside it that require it, extras' wishes left out."""
    wanted = canonical(opened(task_config).name)
    found = {
        canonical(other.name)
        for other in everything(task_config.get("folder"))
        if any(requirement.key == wanted and not requirement.optional for requirement in _required_by(other))
    }
    return sorted(found)


def extras(task_config: dict[str, Json]) -> Json:
    """Names of the extras."""
    distribution = opened(task_config)
    return distribution.headers("Provides-Extra") or lacks(distribution, "extras (Provides-Extra)")


def entry_points(task_config: dict[str, Json]) -> Json:
    """Names of the entry points by group."""
    distribution = opened(task_config)
    groups = distribution.entry_points() or lacks(distribution, "entry points (entry_points.txt)")
    return {group: sorted(entries) for group, entries in sorted(groups.items())}


def commands(task_config: dict[str, Json]) -> Json:
    """The commands that it installs, and the function behind each."""
    distribution = opened(task_config)
    groups = distribution.entry_points()
    found = groups.get("console_scripts", {}) | groups.get("gui_scripts", {})
    for name, reference in found.items():
        if not _REFERENCE.fullmatch(reference):
            raise Reject(f"entry_points.txt of {distribution}: {name} = {reference!r} doesn't name an object")
    return found or lacks(distribution, "commands (console_scripts, gui_scripts)")


def installer(task_config: dict[str, Json]) -> Json:
    """What installed it."""
    distribution = opened(task_config)
    return (distribution.text("INSTALLER") or "").strip() or lacks(distribution, "INSTALLER file")


def wheel_tags(task_config: dict[str, Json]) -> Json:
    """The tags of the wheel that it came as."""
    distribution = opened(task_config)
    wheel = distribution.wheel()
    return (wheel.get_all("Tag") if wheel else None) or lacks(distribution, "wheel tags (no WHEEL file)")


def lacks(distribution: Distribution, what: str) -> NoReturn:
    """Reject, since the distribution honestly has none of it."""
    raise Reject(f"{distribution} has no {what}")


def _required_by(distribution: Distribution) -> list[Requirement]:
    try:
        return distribution.requirements()
    except Reject:  # which its own fields tell
        return []
