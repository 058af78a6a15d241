"""Lists of concepts that boxes are named by: names, synonyms, prompt templates, a hash. Data only; the lists lie in data_manifests/vocabularies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, SupportsIndex

from clip2x.data.triplets.index import ids_by_name, plain, without_qualifier
from clip2x.errors import BadFileError, DataNotFoundError, InputError
from clip2x.manifest import load_manifest, manifest_folder
from clip2x.untrusted import bare, excerpt, require_text, yaml_value

TEMPLATES: dict[str, tuple[str, ...]] = {
    "text": ("point cloud of {}",),
    "detector": ("a photo of a {}",),
    "naming": ("a photo of a {}",),
}
"""Templates by purpose where a list states none.

text: of a triplet (third party: UniGS ced8a3e, lib/base_dataset.py). detector: prompts to OWLv2 (third party: the prompt in its examples).
naming: for CLIP on crops (third party: CLIP, arXiv:2103.00020).
"""

KEYS = ("name", "title", "licence", "source", "citation", "templates", "distractors", "aliases", "concepts")
QUOTE = "quote it (YAML reads no, on and 7 as other things than texts)"


@dataclass(frozen=True)
class Vocabulary:
    """Concepts in the order of their ids: a concept id is a position in `concepts`; synonyms share it.

    name: of the list. source: where it was read, or comes from.
    concepts: of each its names, the one that prompts use first. A name may end in a qualifier in parentheses, `bow (weapon)`.
    distractors: names of things that are no concept; what is named by one is dropped.
    templates: prompts by purpose (`TEMPLATES`), each with one {} for the name.
    aliases: words of other data sets -> a name here; understood when files are read, never part of a prompt.
    """

    name: str
    source: str
    concepts: tuple[tuple[str, ...], ...]
    distractors: tuple[str, ...] = ()
    templates: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict(TEMPLATES))
    aliases: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """Count the concepts."""
        return len(self.concepts)

    @cached_property
    def sha256(self) -> str:
        """Hash of what boxes are named by: concepts, distractors, templates, aliases; not of the list's name and source."""
        content = [self.concepts, self.distractors, sorted(self.templates.items()), sorted(self.aliases.items())]
        return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()

    def name_of(self, concept_id: SupportsIndex) -> str:
        """Look up the first name of a concept."""
        return self.concepts[concept_id][0]

    def id_of(self, name: str) -> int | None:
        """Find a concept by any of its names or an alias; case, underscores, hyphens and spaces do not matter.

        A qualifier may be left out where only one concept has the word: `train` finds `train (railroad vehicle)`, `bow` finds nothing beside
        `bow (weapon)` and `bow (decorative ribbons)`.
        """
        return self._ids.get(plain(name))

    def spoken(self, name: str) -> str:
        """Leave out a name's qualifier where no other concept has the word, as people speak (third party: Detic's released LVIS names)."""
        word = without_qualifier(name)
        return word if word and self.id_of(word) == self.id_of(name) else name

    def prompts(self, purpose: str, names: Sequence[str]) -> list[str]:
        """Put names into the templates of a purpose: all templates of the first name, then those of the next.

        Raises:
            InputError: If there are no templates for that purpose.
        """
        if purpose not in self.templates:
            raise InputError(f"the vocabulary {self.name} has no templates {purpose!r}; it has {', '.join(self.templates)}.")
        return [template.format(self.spoken(name)) for name in names for template in self.templates[purpose]]

    def text_of(self, concept_id: SupportsIndex) -> str:
        """Say the text of a triplet with this concept: its first name in the first template for texts."""
        return self.prompts("text", [self.name_of(concept_id)])[0]

    def describe(self) -> dict[str, Any]:
        """List everything as JSON."""
        return {
            "name": self.name, "source": self.source, "sha256": self.sha256, "concepts": [list(names) for names in self.concepts],
            "distractors": list(self.distractors), "templates": {purpose: list(texts) for purpose, texts in self.templates.items()},
            "aliases": dict(self.aliases),
        }

    @cached_property
    def _ids(self) -> dict[str, int]:
        return ids_by_name({"concepts": self.concepts, "aliases": self.aliases})


def vocabulary_names() -> list[str]:
    """List the vocabularies that come with clip2x."""
    return sorted(path.stem for path in (manifest_folder() / "vocabularies").glob("*.yaml"))


def load_vocabulary(source: str | Path) -> Vocabulary:
    """Read and check a list of concepts.

    Args:
        source: The name of one that comes with clip2x (`lvis`, `mini`); a .yaml file of their form; a .txt file with a concept per line,
            synonyms separated by `|`, `#` before comments; or `manifest:NAME[/VARIANT]`, the classes of a data set.

    Raises:
        InputError: If nothing has that name.
        DataNotFoundError: If there is no such file.
        BadFileError: If the list is empty, holds a name twice, or something that is no text.
    """
    text = str(source)
    if text.startswith("manifest:"):
        name, _, variant = text.removeprefix("manifest:").partition("/")
        manifest = load_manifest(name)
        classes = manifest.classes(variant or next(iter(manifest.variants)))
        return _checked(Vocabulary(text.removeprefix("manifest:"), text, tuple((word,) for word in classes)), text)
    path = Path(text)
    if path.suffix not in (".yaml", ".yml", ".txt"):
        path = manifest_folder() / "vocabularies" / f"{text}.yaml"
        if not path.is_file():
            raise InputError(f"no vocabulary is called {text!r}; there are {', '.join(vocabulary_names())}; or give a .yaml or .txt file, or "
                             "manifest:NAME for the classes of a data set.")
    if not path.is_file():
        raise DataNotFoundError(f"{path}: no such vocabulary file.")
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadFileError(f"{path}: not a readable UTF-8 text file.") from error
    return _checked(_from_lines(content, path) if path.suffix == ".txt" else _from_yaml(content, path), str(path))


def _from_lines(content: str, path: Path) -> Vocabulary:
    rows = [line.split("#")[0] for line in content.splitlines()]
    concepts = tuple(tuple(" ".join(name.split()) for name in row.split("|")) for row in rows if row.strip())
    return Vocabulary(path.stem, path.name, concepts)


def _from_yaml(content: str, path: Path) -> Vocabulary:
    try:
        raw = yaml_value(content)
    except ValueError as error:
        raise BadFileError(f"{path}: not a readable YAML file ({' '.join(str(error).split())[:160]}).") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("concepts"), list):
        raise BadFileError(f"{path}: must be a mapping with the list `concepts`; each concept is a list of names.")
    unknown = [key for key in raw if key not in KEYS]
    if unknown:
        raise BadFileError(f"{path}: unknown key {excerpt(unknown[0])}; known are {', '.join(KEYS)}.")
    concepts = tuple(_texts(names if isinstance(names, list) else [names], path, f"concept {position}")
                     for position, names in enumerate(raw["concepts"]))
    templates, aliases = raw.get("templates") or {}, raw.get("aliases") or {}
    for group, value in (("templates", templates), ("aliases", aliases)):
        if not isinstance(value, dict):
            raise BadFileError(f"{path}: {group} must be a mapping.")
        _texts(list(value), path, f"a key of {group}")
    _texts(list(aliases.values()), path, "aliases")
    stated = {purpose: _texts(texts if isinstance(texts, list) else [texts], path, f"templates.{bare(purpose)}")
              for purpose, texts in templates.items()}
    origin = raw.get("source")
    home = origin.get("home") if isinstance(origin, dict) else origin
    (name,), (where,) = _texts([raw.get("name") or path.stem], path, "name"), _texts([home or path.name], path, "source")
    return Vocabulary(name, where, concepts, _texts(raw.get("distractors") or [], path, "distractors"), {**TEMPLATES, **stated}, dict(aliases))


def _texts(raw: object, path: Path, where: str) -> tuple[str, ...]:
    if not isinstance(raw, list):
        raise BadFileError(f"{path}: {where} must be a list of texts, found {excerpt(raw)}.")
    for item in raw:
        if not isinstance(item, str):
            raise BadFileError(f"{path}: {where} holds {excerpt(item)}, which is no text; {QUOTE}.")
        try:
            require_text(item)
        except ValueError:
            raise BadFileError(f"{path}: {where} holds {excerpt(item)}, which is no Unicode text.") from None
    return tuple(raw)


def _checked(vocabulary: Vocabulary, where: str) -> Vocabulary:
    """Refuse lists in which a name could mean two things, or nothing."""
    if not vocabulary.concepts:
        raise BadFileError(f"{where}: holds no concept.")
    owner: dict[str, int] = {}
    for position, names in enumerate(vocabulary.concepts):
        if not names:
            raise BadFileError(f"{where}: concept {position} has no name.")
        for name in names:
            if not plain(name):
                raise BadFileError(f"{where}: concept {position} ({excerpt(names[0])}) has an empty name.")
            other = owner.setdefault(plain(name), position)
            if other != position:
                raise BadFileError(f"{where}: the name {excerpt(name)} stands for concept {other} ({excerpt(vocabulary.name_of(other))}) and for "
                                   f"concept {position} ({excerpt(names[0])}); a name has one meaning (case, spaces, hyphens and underscores aside).")
        if len(set(names)) < len(names):
            raise BadFileError(f"{where}: concept {position} ({excerpt(names[0])}) has a name twice.")
    for alias, name in vocabulary.aliases.items():
        if plain(name) not in owner:
            raise BadFileError(f"{where}: the alias {excerpt(alias)} stands for {excerpt(name)}, which is no name of a concept.")
        if plain(alias) in owner:
            raise BadFileError(f"{where}: the alias {excerpt(alias)} is a name already, of concept {owner[plain(alias)]}.")
    for name in vocabulary.distractors:
        if not plain(name) or plain(name) in owner:
            raise BadFileError(f"{where}: the distractor {excerpt(name)} is {'a name of a concept' if plain(name) else 'empty'}.")
    for purpose, texts in vocabulary.templates.items():
        for template in texts or ("",):
            if template.count("{}") != 1 or template.count("{") != 1 or template.count("}") != 1:
                raise BadFileError(f"{where}: a template of {bare(purpose)} is {excerpt(template)}; it needs exactly one {{}} for the name.")
    return vocabulary
