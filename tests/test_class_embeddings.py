"""Class names to text embeddings: the mean over templates, the cache, refusals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from clip2x.errors import BadFileError, Clip2xError, DataNotFoundError, InputError
from clip2x.evaluation.class_embeddings import centred, class_embeddings, read_class_file, unknown_words

NAMES, TEMPLATES = ["chair", "night stand", "tv"], ["a {}", "image of a {}", "{}"]


class HashedTexts:
    """Each text gets its own vector; counts the calls."""

    def __init__(self, identity: str = "model/tag", words: frozenset[str] | None = None) -> None:
        self.id, self.trained_words, self.calls = identity, words, 0

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        self.calls += 1
        rows = [torch.randn(8, generator=torch.Generator().manual_seed(sum(map(ord, text)))) * (1 + len(text)) for text in texts]
        return torch.stack(rows).requires_grad_()


def test_equals_slow_twin() -> None:
    embeds = class_embeddings(HashedTexts(), NAMES, TEMPLATES)
    for name, embed in zip(NAMES, embeds, strict=True):
        total = torch.zeros(8)
        for template in TEMPLATES:
            feature = HashedTexts().encode_text([template.format(name)])[0]
            total = total + feature / feature.norm()
        assert torch.allclose(embed, total / total.norm(), atol=1e-6)
    assert not embeds.requires_grad and embeds.shape == (3, 8)


def test_order_of_names_is_order_of_rows() -> None:
    assert torch.allclose(class_embeddings(HashedTexts(), NAMES[::-1], TEMPLATES), class_embeddings(HashedTexts(), NAMES, TEMPLATES).flip(0))


def test_a_mean_is_removed_by_hand() -> None:
    embeds = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    expected = torch.tensor([[0.8, -0.4], [0.4, 0.4]]) / torch.tensor([[0.8 * 1.25**0.5], [0.4 * 2**0.5]])
    assert torch.allclose(centred(embeds, torch.tensor([0.2, 0.4])), expected, atol=1e-6)
    names = class_embeddings(HashedTexts(), NAMES, TEMPLATES)
    without = centred(names, names.mean(dim=0).double())
    assert without.dtype == names.dtype and torch.allclose(without.norm(dim=-1), torch.ones(3))
    assert torch.allclose(centred(names, torch.zeros(8)), names)


def test_result_of_evaluation_can_be_used_in_training() -> None:
    with torch.inference_mode():
        embeds = class_embeddings(HashedTexts(), NAMES, TEMPLATES)
    weight = torch.ones(8, requires_grad=True)
    (embeds * weight).sum().backward()
    assert weight.grad is not None


def test_cache_is_by_content(tmp_path: Path) -> None:
    towers = HashedTexts()
    first = class_embeddings(towers, NAMES, TEMPLATES, cache=tmp_path)
    assert torch.equal(class_embeddings(towers, NAMES, TEMPLATES, cache=tmp_path), first) and towers.calls == 1
    for identity, names, templates in (("other/tag", NAMES, TEMPLATES), ("model/tag", NAMES[:2], TEMPLATES), ("model/tag", NAMES, TEMPLATES[:1])):
        other = HashedTexts(identity)
        class_embeddings(other, names, templates, cache=tmp_path)
        assert other.calls == 1
    assert len(list(tmp_path.iterdir())) == 4 and all(path.suffix == ".safetensors" for path in tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"\0" * 100, None])
def test_damaged_cache_is_computed_again(content: bytes | None, tmp_path: Path) -> None:
    towers = HashedTexts()
    first = class_embeddings(towers, NAMES, TEMPLATES, cache=tmp_path)
    path = next(tmp_path.iterdir())
    whole = path.read_bytes()
    path.write_bytes(whole[:-5] if content is None else content)
    assert torch.equal(class_embeddings(towers, NAMES, TEMPLATES, cache=tmp_path), first) and towers.calls == 2
    assert path.read_bytes() == whole
    path.write_bytes(whole[:-40] + b"\0" * 40)  # right length, wrong numbers
    assert torch.equal(class_embeddings(towers, NAMES, TEMPLATES, cache=tmp_path), first) and towers.calls == 3


@pytest.mark.parametrize(("names", "templates", "message"), [
    ([], TEMPLATES, "class names must be a list with at least one name"),
    ("chair", TEMPLATES, "class names must be a list"),
    (["chair", " "], TEMPLATES, "class name 1 is empty"),
    (["chair", "bed", "Chair"], TEMPLATES, "class 'Chair' stands twice, at positions 0 and 2"),
    (NAMES, [], "templates must be a list with at least one"),
    (NAMES, ["a photo"], "template 'a photo' needs exactly one {} for the class name"),
    (NAMES, ["{} and {}"], "needs exactly one {}"),
    (NAMES, ["a {0} {}"], "needs exactly one {}"),
])
def test_bad_list_is_one_line(names: list[str], templates: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        class_embeddings(HashedTexts(), names, templates)
    assert "\n" not in str(caught.value)


def test_class_file(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("\ufeff# furniture\nchair\n\n night  stand  # by the bed\r\ntv\n", encoding="utf-8")
    assert read_class_file(path) == NAMES


@pytest.mark.parametrize(("content", "error", "message"), [
    (b"chair\n# x\nbed\nChair\n", BadFileError, "'Chair' stands on line 1 and on line 4"),
    (b"# nothing\n\n", BadFileError, "holds no class name"),
    (b"\xff\xfe\x00\xd8", BadFileError, "not a readable UTF-8 text file"),
    (None, DataNotFoundError, "no such class file"),
])
def test_bad_class_file_is_one_line(content: bytes | None, error: type[Clip2xError], message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "classes.txt").write_bytes(content)
    with pytest.raises(error, match=message):
        read_class_file(tmp_path / "classes.txt")


def test_unknown_words() -> None:
    small = HashedTexts(words=frozenset({"chair", "night", "stand"}))
    assert unknown_words(small, ["Chair", "night_stand", "night-stand", "chair lift", "tv"]) == ["chair lift", "tv"]
    assert unknown_words(HashedTexts(), ["anything"]) == []
