"""The scores of one test set -> its rows of results, one a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from clip2x.data.base import PointCloudDataset
from clip2x.errors import InputError
from clip2x.evaluation.bootstrap import Resampling
from clip2x.evaluation.breakdowns import breakdown, point_bins, range_bins
from clip2x.evaluation.methods import Method, points_seen, sum_of_cosines
from clip2x.evaluation.metrics import apart_metrics, classification_metrics, group_metrics, paired_gain
from clip2x.evaluation.mistakes import hardest_mistakes
from clip2x.evaluation.none_of_these import none_of_these
from clip2x.evaluation.transduction import mined_frames

UNKNOWN = "words unseen by CLIP"
MINED = ("recordings of these names were mined for training or choosing this method: transductive, its figures are not those of unseen frames "
         "(unless the data are others under the same names, as the mini-world's are)")


@dataclass(frozen=True)
class SetScores:
    """What was measured on a test set, in the order of its samples; samples that could not be read are not in it.

    index: (N,) positions in the data set. cosines: (N, P, C). labels: (N,), -1 for an object of none of the names.
    has_image: (N,), None where no pictures were asked for or the set has none. counted_points, range_m: (N,), of scene objects.
    """

    index: Int64[Tensor, " N"]
    cosines: Float[Tensor, "N P C"]
    labels: Int64[Tensor, " N"]
    has_image: Bool[Tensor, " N"] | None = None
    counted_points: Tensor | None = None
    range_m: Tensor | None = None

    @classmethod
    def of(cls, columns: Mapping[str, Tensor]) -> SetScores:
        """Take columns by their names."""
        return cls(**columns)

    def subset(self, chosen: Bool[Tensor, " N"]) -> SetScores:
        """Take some of the samples."""
        return SetScores.of({name: value[chosen] for name, value in vars(self).items() if value is not None})


@dataclass(frozen=True)
class Naming:
    """What names are reported by themselves.

    apart: by method, names and what they are. unknown: names with a word that the CLIP at hand never saw in training.
    """

    apart: Mapping[str, tuple[Sequence[str], str]] = field(default_factory=dict)
    unknown: Sequence[str] = ()


def rows_of_set(data: PointCloudDataset, scores: SetScores, methods: Sequence[Method], naming: Naming, prompts: Mapping[str, list[list[str]]], *,
                said: Mapping[str, Any], notes: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """Build the rows of a test set.

    Accuracies are over objects that have one of the names; `none_of_these` looks at all. A comparison of two methods is over the objects that
    both were evaluated on.

    Args:
        data: The test set.
        scores: What was measured.
        methods: Those whose lines the set has.
        naming: Names that are reported by themselves.
        prompts: By method, the prompts of each encoder that it sums.
        said: What every row's protocol says.
        notes: What every row's notes say.
        seed: Of bootstrap intervals.

    Raises:
        InputError: If no object has one of the names.
    """
    if not bool((scores.labels >= 0).any()):
        raise InputError(f"{data.manifest.name}/{data.variant_name}/{data.split}: none of its {len(scores.labels):,} objects has one of the names; "
                         "evaluate more of them.")
    all_scenes = data.scenes
    scenes = None if all_scenes is None else [all_scenes[index] for index in scores.index.tolist()]
    values = {method.name: sum_of_cosines(scores.cosines, method.factors) for method in methods}
    used = {method.name: _used(method, scores) for method in methods}
    right = {name: value.argmax(dim=1) == scores.labels for name, value in values.items()}
    rows = []
    for method in methods:
        name, named = method.name, used[method.name] & (scores.labels >= 0)
        own = scores.subset(named)
        resampling = _resampling(scenes, named, seed)
        metrics = classification_metrics(values[name][named], own.labels, data.class_names, resampling=resampling)
        gains = {}
        for key, over in (("gain", method.gain_over), ("step", method.step_over)):
            both = None if over is None or over not in used else named & used[over]
            gains[key] = None if both is None or not bool(both.any()) else {
                "over": over, "num_samples": int(both.sum()),
                **paired_gain(right[name][both], right[str(over)][both], resampling=_resampling(scenes, both, seed))}
        apart, apart_from = naming.apart.get(name, ((), ""))
        parted = apart_metrics(metrics, apart)
        mined = mined_frames(method.mined, data)
        all_prompts = prompts[name]
        rows.append({
            "dataset": data.manifest.name, "variant": data.variant_name, "split": data.split, "method": name, **metrics, **gains, "apart": parted,
            "groups": _groups(values[name][named], own.labels, data, naming),
            "by_range": None if own.range_m is None else breakdown(right[name][named], own.labels, own.range_m, range_bins(data.variant.format)),
            "by_points": None if own.counted_points is None else breakdown(right[name][named], own.labels, own.counted_points.double(), point_bins()),
            "none_of_these": none_of_these(values[name][used[name]], scores.labels[used[name]], method.scale),
            "mistakes": hardest_mistakes(values[name][named], own.labels, data.class_names, own.index, lambda index: data.entries[index].key,
                                         method.scale),
            "prompts": list(dict.fromkeys(prompt for encoder in all_prompts for prompt in encoder)), "seed": data.seed,
            "protocol": {**said, **method.protocol, "num_points_of_encoder": points_seen(method, data.num_points),
                         "apart_from": apart_from if parted else None, "transductive": mined,
                         "prompts_of_encoders": all_prompts if len({tuple(encoder) for encoder in all_prompts}) > 1 else None,
                         "notes": [*notes, *method.protocol["notes"], *([f"{name}: {MINED} ({mined})."] if mined else [])]},
        })
    return rows


def _groups(scores: Float[Tensor, "N C"], labels: Int64[Tensor, " N"], data: PointCloudDataset, naming: Naming) -> dict[str, Any] | None:
    """Look at groups of classes by themselves: the manifest's, and the names that a small CLIP cannot know; None where there is none."""
    groups = {**data.variant.groups, **({UNKNOWN: naming.unknown} if naming.unknown else {})}
    found = {title: group_metrics(scores, labels, data.class_names, group) for title, group in groups.items()}
    return {title: metrics for title, metrics in found.items() if metrics is not None} or None


def _used(method: Method, scores: SetScores) -> Bool[Tensor, " N"]:
    everything = torch.ones(len(scores.labels), dtype=torch.bool)
    return scores.has_image if method.needs_image and scores.has_image is not None else everything


def _resampling(scenes: Sequence[str] | None, chosen: Bool[Tensor, " N"], seed: int) -> Resampling:
    return Resampling(None if scenes is None else [scenes[position] for position in chosen.nonzero()[:, 0].tolist()], seed)
