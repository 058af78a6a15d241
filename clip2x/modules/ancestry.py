"""What a training takes over from the checkpoint whose weights it starts from: what that one was trained on is in the new weights too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clip2x.data.triplets.index import plain
from clip2x.encoders.checkpoint_parts import joined_mined
from clip2x.errors import InputError


@dataclass(frozen=True)
class Parent:
    """The checkpoint that initial weights come from.

    argument: of the module that names it. path, sha256, about: of the file.
    """

    argument: str
    path: str
    sha256: str
    about: Mapping[str, Any]

    def require_unseen(self, names: Sequence[str]) -> None:
        """Refuse names that are to be reported as unseen, but that this checkpoint was trained with.

        Raises:
            InputError: If there is one.
        """
        known = {plain(name) for name in self.about.get("class_names") or ()}
        if overlap := [name for name in names if plain(name) in known]:
            raise InputError(f"model.unseen_names has {', '.join(overlap)}, which {self.argument} {self.path} was trained with; start from one that "
                             "was trained without.")

    def inherited(self, said: Mapping[str, Any], present: Sequence[str]) -> dict[str, Any]:
        """Say of the new checkpoint what is true of both trainings together.

        Args:
            said: What the new one says of itself.
            present: All words of the concepts that occur in its data.

        Returns:
            `said`, with the frames and names of both, the names that neither had, and a line of `parents`, the nearest first.
        """
        names = [*said["class_names"], *(self.about.get("class_names") or ())]
        known = {plain(name) for name in (*names, *present)}
        unseen = [*said["unseen_names"], *(self.about.get("unseen_names") or ())]
        own = {"argument": self.argument, "stage": self.about["stage"], "sha256": self.sha256}
        return {**said, "mined": joined_mined(said["mined"], self.about.get("mined")), "class_names": list(dict.fromkeys(names)),
                "unseen_names": [name for name in dict.fromkeys(unseen) if plain(name) not in known],
                "parents": [own, *(self.about.get("parents") or ())]}

    def changed_targets(self, templates: Sequence[str], centred: bool) -> list[str]:
        """Say so where the initial weights of a point encoder were trained against other embeddings of the names."""
        ours = {"prompts": list(templates), "mean removed from the names": centred}
        theirs = {"prompts": list(self.about["templates"]), "mean removed from the names": self.about["mean_text"] is not None}
        return [f"the initial weights were trained otherwise: {what}: {theirs[what]}, now {ours[what]}"
                for what in ours if ours[what] != theirs[what]]
