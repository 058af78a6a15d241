"""The page of the quality report: one HTML file without any other, light and dark, for large screens and phones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clip2x.evaluation.charts import bar_list, histogram_of_counts, interval_bar, long_tail, short_number, text
from clip2x.evaluation.page_parts import document, note, percent, table, tiles
from clip2x.evaluation.proxy_pictures import data_address

MOST_FREQUENT = 30  # classes that are drawn as bars; all of them stand in the table
WENT_ON = ("boxes", "detections")  # counters of what came in; "proxies" and the triplets come out; every other counter is a rule
PARTS = ("detector", "outdoor", "indoor", "lifting", "sweeps", "depth", "max_points", "seed")  # settings of a collection that are shown
Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Card:
    """A triplet of the gallery. distance_m: of its points' mean from the sensor. verdict: what an annotated box says of it.

    crop: JPEG, None where there is none. front, side: PNG of the points.
    """

    name: str
    score: float
    num_points: int
    distance_m: float
    data: str
    frame: str
    camera: str
    verdict: str
    crop: bytes | None
    front: bytes
    side: bytes


def page(content: Figures, cards: Sequence[Card], mistakes: Sequence[Card] = ()) -> str:
    """Write the page of a report, with cards drawn from all triplets and those of its hardest mistakes. Texts that come from files are escaped."""
    sections = [_head(content), _agreement(content["quality"]), _mistakes(mistakes), _classes(content["classes"]), _data_sets(content["data"]),
                _gallery(cards), _origin(content["provenance"])]
    return document("Triplet proxies: quality", sections)


def store_summary(content: Figures) -> str:
    """Say the main figures of a store and of its data sets, for the page of all runs."""
    store = content["store"]
    lines = [[text(name), f'<span class="soft">not measured: {text(figures["skipped"])}</span>', "", ""] if "skipped" in figures else
             [text(name), *map(_share, (figures["any_name"]["good"], figures["any_name"]["recall"], figures["labels"]))]
             for name, figures in content["quality"].items()]
    about = f"{store['num_triplets']:,} triplets of {store['num_frames']:,} frames{'' if store['complete'] else '; not finished'}"
    measured = table(["data set", "matched proxies that are good", "objects found", "texts right"], lines) if lines else ""
    return f'{"".join(map(note, _notes(content)))}<p>{about}, from <code>{text(store["folder"])}</code>.</p>{measured}'


def _notes(content: Figures) -> list[str]:
    notes = [] if content["store"]["complete"] else ["The store is still growing, or its collection was stopped: this is what is in it now."]
    made_up = [name for name, data in content["data"].items() if data["files"] == "mini-world"]
    if made_up:
        notes.append(f"{', '.join(made_up)}: made-up scenes of the mini-world. The figures show that the pipeline works; they say nothing about "
                     "real scans.")
    return notes


def _head(content: Figures) -> str:
    store, classes = content["store"], content["classes"]
    counts = [(short_number(store["num_triplets"]), "triplets"),
             (f"{store['num_frames']:,}", f"frames, {store['num_frames_without_triplets']:,} of them without a triplet"),
             (f"{sum(count > 0 for count in classes.values()):,}", f"of {len(classes):,} concepts have triplets"),
             (short_number(store["num_points"]), "points stored")]
    return (f'<h1>Triplet proxies: quality</h1><p class="soft"><code>{text(store["folder"])}</code></p>{"".join(map(note, _notes(content)))}'
            f"{tiles(counts)}")


def _agreement(quality: Figures) -> str:
    title = "<h2>Agreement with annotated boxes</h2>"
    if not quality:
        return f"{title}<p>Not measured: no data root was given (<code>--root</code>).</p>"
    about = ("<p>Annotations are used for this report only, never to choose a triplet. Intervals are Wilson's, 95 %; objects of one scene are alike, "
             "so the true ones are wider. Proxies without a match may be true objects that nobody annotated.</p>")
    return title + about + "".join(
        f"<h3>{text(name)}</h3>" + (note(f"Not measured: {figures['skipped']}") if "skipped" in figures else _figures(figures))
        for name, figures in quality.items())


def _figures(figures: Figures) -> str:
    """Lay out what was measured on one data set."""
    settings, labels, both = figures["settings"], figures["labels"], (figures["any_name"], figures["named"])
    free = both[0]
    rows = [
        ["proxies matched with an object", *(f"{own['matched']:,} of {figures['proxies']:,}" for own in both), None,
         f"overlap of the box with the object's rectangle at least {settings['match_overlap']:g}"],
        ["good, of those matched", *(_share(own["good"]) for own in both), free["good"],
         f"at least {100 * settings['good_share']:g} % of the points lie in the object's 3-D box"],
        ["points inside, mean", *(percent(own["inside"]["mean"]) for own in both), None, "share of a matched proxy's points in that box"],
        ["purity, mean", *(percent(own["purity"]["mean"]) for own in both), None, "the same among the points that lie in any object's box"],
        ["objects found (recall)", *(_share(own["recall"]) for own in both), free["recall"],
         f"have a good proxy; of objects with at least {settings['least_lidar_points']} annotated LiDAR points, or "
         f"{settings['least_counted_points']} depth points"],
        ["completeness, mean", *(f"{percent(own['completeness']['mean'])} (n = {own['completeness']['n']:,})" for own in both), None,
         "share of the object's points that its best proxy holds; without objects whose proxies are not stored whole"],
        ["proxies beyond the first", *(f"{own['repeated']:,}" for own in both), None, "matched with an object that another proxy has too"],
        ["texts right (label precision)", _share(labels), "", labels,
         f"of matched proxies with overlap and points inside at least {settings['label_overlap']:g}; class mean {percent(labels['class_mean'])} "
         f"({len(labels['per_class'])} classes)"],
    ]
    summary = table(["", "any name", "", "fitting name"], [[f'{text(name)}<br><span class="soft">{text(meaning)}</span>', first, _bar(entry), second]
                                                         for name, first, second, entry, meaning in rows])
    shares = tiles([(percent(free["good"]["share"]), "of the matched proxies are good"),
                     (percent(free["recall"]["share"]), "of the objects with enough points are found"),
                     (percent(labels["share"]), "of the texts are right")])
    wrong = table(["annotated", "text", "times"], [[text(item["annotated"]), text(item["text"]), f"{item['times']:,}"]
                                                    for item in labels["most_often_wrong"]])
    notes = [f"{figures['frames']:,} of {figures['frames_in_store']:,} frames, {figures['annotated']:,} annotated objects"]
    notes += [f"{figures['in_no_picture']:,} of those asked for lie in no picture"] if figures["in_no_picture"] else []
    notes += [f"the vocabulary has no word for {', '.join(labels['not_in_vocabulary'])}"] if labels["not_in_vocabulary"] else []
    notes += [f"{figures['unreadable']:,} frames could not be read"] if figures["unreadable"] else []
    details = f"<details><summary>Texts that were wrong most often</summary>{wrong}</details>" if labels["most_often_wrong"] else ""
    return (f'<p class="soft">{text("; ".join(notes))}.</p>{shares}{summary}{_split("class", free, labels["per_class"])}{_split("range", free, {})}'
            f"{details}")


def _split(kind: str, own: Figures, labels: Figures) -> str:
    """Lay out shares by class or by range, whatever the name of the proxy."""
    columns = {"found": own[f"recall_by_{kind}"], "good": own[f"good_by_{kind}"], **({"texts right": labels} if labels else {})}
    names = dict.fromkeys(name for entries in columns.values() for name in entries)
    rows = [[text(name), *(cell for entries in columns.values() for cell in (_count(entries.get(name)), _bar(entries.get(name))))] for name in names]
    return table([kind, *(head for title in columns for head in (title, ""))], rows)


def _classes(classes: Mapping[str, int]) -> str:
    found = {name: count for name, count in classes.items() if count}
    tenth = sum(list(found.values())[: max(1, len(found) // 10)])  # they come with the most frequent first
    share = f"The most frequent tenth of the classes holds {percent(tenth / sum(found.values()))} of the triplets. " if found else ""
    every = table(["concept", "triplets"], [[text(name), f"{count:,}"] for name, count in classes.items()])
    bars = bar_list([(name, count, "bar") for name, count in list(found.items())[:MOST_FREQUENT]])
    tail = long_tail(list(found.values()), "Triplets of each class, by rank", "rank of the class")
    return (f"<h2>Classes</h2><p>{share}{len(classes) - len(found):,} concepts have no triplet.</p>"
            f'<div class="sides"><div>{tail}</div><div>{bars}</div></div>'
            f"<details><summary>All {len(classes):,} concepts</summary>{every}</details>")


def _data_sets(data: Figures) -> str:
    parts = ["<h2>Data sets and rules</h2><p>Blue bars count what came in and what came out, orange ones what each rule dropped.</p>"]
    for name, facts in data.items():
        rules, ranges = {rule: count for rule, count in facts["rules"].items() if not rule.startswith("picture ")}, facts["range_m"]
        pictures = "".join(f", {count:,} times: {text(rule)}" for rule, count in facts["rules"].items() if rule not in rules)
        rows = [(rule, rules.pop(rule), "bar") for rule in WENT_ON if rule in rules]
        last = [(rule, rules.pop(rule), "bar") for rule in ("proxies",) if rule in rules]
        dropped = sorted(rules.items(), key=lambda item: (item[0].startswith("filter: "), -item[1]))
        rows += [(rule, count, "dropped") for rule, count in dropped if not rule.startswith("filter: ")]
        last += [(rule, count, "dropped") for rule, count in dropped if rule.startswith("filter: ")]
        charts = [histogram_of_counts(facts["score"], f"Score (median {_number(facts['score']['median'])})", "score of the detector"),
                  histogram_of_counts(facts["points"], f"Points (median {_number(facts['points']['median'])})", "points of a triplet", log=True),
                  histogram_of_counts(ranges, f"Range (median {_number(ranges['median'])} m)",
                                      f"metres from the sensor ({ranges['sampled']:,} triplets)")]
        parts.append(f"<h3>{text(name)}</h3><p class=soft>{facts['frames']:,} frames, {facts['triplets']:,} triplets{pictures}</p>"
                     f'{bar_list([*rows, *last, ("triplets", facts["triplets"], "bar")])}<div class="charts">{"".join(charts)}</div>')
    return "".join(parts)


def _mistakes(cards: Sequence[Card]) -> str:
    return "" if not cards else (
        "<h2>Hardest mistakes</h2><p>Texts that no annotated object bears out, the highest scores of the detector, at most two of an annotated "
        f'class: the crop and the points from two sides.</p><div class="cards">{"".join(map(_card, cards))}</div>')


def _gallery(cards: Sequence[Card]) -> str:
    return "" if not cards else (
        "<h2>Triplets</h2><p>Drawn evenly over the classes. From left to right: the crop; the points as the sensor sees them; the points from the "
        f'side and above. Near points are bright.</p><div class="cards">{"".join(map(_card, cards))}</div>')


def _card(card: Card) -> str:
    crop = f'<img alt="crop" src="{data_address(card.crop, "jpeg")}">' if card.crop else "<span>no crop</span>"
    front, side = (f'<img alt="points" src="{data_address(view, "png")}">' for view in (card.front, card.side))
    verdict = f"<p>{text(card.verdict)}</p>" if card.verdict else ""
    return (f'<div class="card"><h4>{text(card.name)}</h4><div class="views">{crop}{front}{side}</div>'
            f"<p>score {card.score:.2f}, {card.num_points:,} points, {card.distance_m:.1f} m</p>{verdict}"
            f'<p class="soft">{text(card.data)}, {text(card.camera)}<br>{text(card.frame)}</p></div>')


def _origin(provenance: Figures) -> str:
    vocabulary = provenance["vocabulary"]
    settings, commit = provenance.get("settings") or {}, provenance.get("commit") or (provenance.get("provenance") or {}).get("commit")
    lines = {"vocabulary": f"{vocabulary.get('name', 'not stated')}, sha256 {str(vocabulary.get('sha256', 'not stated'))[:16]}",
             **{key: json.dumps(settings.get(key) or provenance[key]) for key in PARTS if settings.get(key) or provenance.get(key)},
             "seed of the report": provenance["report_seed"], "commit of the collection": commit or "not stated"}
    return (f"<h2>Where it comes from</h2>{''.join(f'<p><b>{text(key)}</b> <code>{text(line)}</code></p>' for key, line in lines.items())}"
            f"<details><summary>All that the store states</summary><pre>{text(json.dumps(provenance, indent=1))}</pre></details>")


def _bar(entry: Figures | None) -> str:
    return "" if entry is None else interval_bar(entry["share"], entry["interval"])


def _share(entry: Figures) -> str:
    if entry["share"] is None:
        return "none"
    low, high = entry["interval"]
    return f'{_count(entry)}<br><span class="soft">[{100 * low:.1f}, {100 * high:.1f}]</span>'


def _count(entry: Figures | None) -> str:
    return "" if entry is None else f"{entry['k']:,} of {entry['n']:,}: {percent(entry['share'])}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
