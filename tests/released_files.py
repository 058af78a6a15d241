"""Files in the layouts of ULIP and OpenShape with random weights, and slow twins of their encoders.

Written from the published architectures, with nothing of clip2x: names and shapes one by one, farthest points, neighbours, attention heads and
normalisation step by step, in double precision where the official code has nothing to decide.
"""

from __future__ import annotations

import math
from argparse import Namespace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
State = dict[str, Tensor]


def batch_norm(name: str, width: int) -> Shapes:
    return {f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")} | {f"{name}.num_batches_tracked": ()}


def linear(name: str, out: int, into: int, *kernel: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (out, into, *kernel)} | ({f"{name}.bias": (out,)} if bias else {})


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def ulip_shapes(embed_dim: int, inputs: int, depth: int, width: int = 384, group: int = 256) -> Shapes:
    """ULIP's Point-BERT: models/pointbert/point_encoder.py and dvae.py, PointTransformer_8192point.yaml (12 layers, xyz) and
    ULIP_2_PointBERT_10k_colored_pointclouds.yaml (18 layers, xyz and rgb).
    """
    shapes: Shapes = {"cls_token": (1, 1, width), "cls_pos": (1, 1, width)}
    shapes |= linear("encoder.first_conv.0", 128, inputs, 1) | batch_norm("encoder.first_conv.1", 128) | linear("encoder.first_conv.3", 256, 128, 1)
    shapes |= linear("encoder.second_conv.0", 512, 512, 1) | batch_norm("encoder.second_conv.1", 512) | linear("encoder.second_conv.3", group, 512, 1)
    shapes |= linear("reduce_dim", width, group) | linear("pos_embed.0", 128, 3) | linear("pos_embed.2", width, 128) | norm("norm", width)
    for layer in range(depth):
        block = f"blocks.blocks.{layer}"
        shapes |= norm(f"{block}.norm1", width) | norm(f"{block}.norm2", width) | linear(f"{block}.attn.qkv", 3 * width, width, bias=False)
        shapes |= linear(f"{block}.attn.proj", width, width) | linear(f"{block}.mlp.fc1", 4 * width, width)
        shapes |= linear(f"{block}.mlp.fc2", width, 4 * width)
    return {f"point_encoder.{name}": shape for name, shape in shapes.items()} | {"pc_projection": (2 * width, embed_dim), "logit_scale": ()}


def openshape_shapes(embed_dim: int | None, inputs: int = 6, width: int = 512, depth: int = 12, mlp: int = 1536, group: int = 256) -> Shapes:
    """OpenShape's Point-BERT: src/models/ppat.py and pointnet_util.py; `embed_dim` None: without a projection, as the one for ViT-B/32."""
    shapes: Shapes = {"cls_token": (width,)}
    for layer, (into, out) in enumerate(((inputs + 3, 64), (64, 64), (64, group))):
        shapes |= linear(f"sa.mlp_convs.{layer}", out, into, 1, 1) | batch_norm(f"sa.mlp_bns.{layer}", out)
    shapes |= linear("lift.0", width, group + 3, 1) | norm("lift.2", width)
    for layer in range(depth):
        attention, feed = f"transformer.layers.{layer}.0", f"transformer.layers.{layer}.1"
        shapes |= norm(f"{attention}.norm", width) | linear(f"{attention}.fn.to_qkv", 3 * width, width, bias=False)
        shapes |= linear(f"{attention}.fn.to_out.0", width, width)
        shapes |= norm(f"{feed}.norm", width) | linear(f"{feed}.fn.net.0", mlp, width) | linear(f"{feed}.fn.net.3", width, mlp)
    if embed_dim is None:
        return shapes
    return {f"ppat.{name}": shape for name, shape in shapes.items()} | linear("proj", embed_dim, width)


def slip_shapes(visual: int, layers: int, text: int, text_layers: int, embed_dim: int = 512) -> Shapes:
    """SLIP in ULIP's files: ULIP_WITH_IMAGE of models/ULIP_models.py; timm's ViT with patches of 16 pixels as `visual`."""
    shapes: Shapes = {"visual.cls_token": (1, 1, visual), "visual.pos_embed": (1, 197, visual)} | norm("visual.norm", visual)
    shapes |= linear("visual.patch_embed.proj", visual, 3, 16, 16)
    for layer in range(layers):
        block = f"visual.blocks.{layer}"
        shapes |= norm(f"{block}.norm1", visual) | norm(f"{block}.norm2", visual) | linear(f"{block}.attn.qkv", 3 * visual, visual)
        shapes |= linear(f"{block}.attn.proj", visual, visual) | linear(f"{block}.mlp.fc1", 4 * visual, visual)
        shapes |= linear(f"{block}.mlp.fc2", visual, 4 * visual)
    shapes |= {"token_embedding.weight": (49408, text), "positional_embedding": (77, text), "image_projection": (visual, embed_dim),
               "text_projection": (text, embed_dim), "logit_scale": ()} | norm("ln_final", text)
    for layer in range(text_layers):
        block = f"transformer.resblocks.{layer}"
        shapes |= norm(f"{block}.ln_1", text) | norm(f"{block}.ln_2", text)
        shapes |= {f"{block}.attn.in_proj_weight": (3 * text, text), f"{block}.attn.in_proj_bias": (3 * text,)}
        shapes |= linear(f"{block}.attn.out_proj", text, text) | linear(f"{block}.mlp.c_fc", 4 * text, text)
        shapes |= linear(f"{block}.mlp.c_proj", text, 4 * text)
    return shapes


def random_state(shapes: Shapes, seed: int = 0) -> State:
    """Weights of a usual size; normalisations that do something, variances above 0."""
    generator = torch.Generator().manual_seed(seed)
    state: State = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif name == "logit_scale":
            state[name] = torch.tensor(math.log(30.0))
        elif name.endswith("running_var"):
            state[name] = 0.5 + torch.rand(shape, generator=generator)
        elif len(shape) == 1 and name.endswith(".weight"):
            state[name] = 1 + 0.2 * torch.randn(shape, generator=generator)
        else:
            into = math.prod(shape[1:]) if name.endswith(("weight", "in_proj_weight")) else shape[0] if len(shape) == 2 else 16
            state[name] = torch.randn(shape, generator=generator) / math.sqrt(max(1, into))
    return state


def save_ulip(path: Path, state: State) -> Path:
    """As main.py saves it: behind DistributedDataParallel, beside optimizer, command line and best accuracy."""
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}, "optimizer": {"state": {}}, "scaler": {},
                "best_acc1": 1.5, "args": Namespace(model="ULIP_PointBERT", npoints=8192, lr=0.003, betas=(0.9, 0.98), wandb=False)}, path)
    return path


def save_openshape(path: Path, state: State, scale: float = 20.0) -> Path:
    """As src/train.py saves it: behind DistributedDataParallel, the scale as a state dict of its own."""
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()},
                "logit_scale": {"module.logit_scale": torch.tensor(math.log(scale))}, "text_proj": None, "image_proj": None,
                "optimizer": {"state": {}}, "scheduler": {"gamma": 0.967},
                "epoch": 3, "step": 9, "best_lvis_acc": torch.tensor(0.4), "best_img_contras_acc": 0}, path)
    return path


def save_demo(path: Path, state: State) -> Path:
    """As openshape-demo-support reads it: one flat mapping, the encoder below pc_encoder."""
    torch.save({f"pc_encoder.{name}": value for name, value in state.items()} | {"logit_scale": torch.tensor(2.0)}, path)
    return path


def farthest(points: np.ndarray, count: int, start: int, near_origin: float | None = None) -> list[int]:
    """Choose points one by one; of pointnet2_ops' kernel: those within sqrt(near_origin) of the origin are passed over."""
    x, y, z = points.astype(np.float32).T
    nearest = np.full(len(points), 1e10, dtype=np.float32)
    if near_origin is not None:
        nearest[x * x + y * y + z * z <= near_origin] = -1
    chosen = [start]
    for _ in range(count - 1):
        last = chosen[-1]
        nearest = np.minimum(nearest, (x - x[last]) ** 2 + (y - y[last]) ** 2 + (z - z[last]) ** 2)
        nearest[chosen] = -1
        chosen.append(int(nearest.argmax()))
    return chosen


def standardise(values: Tensor, state: State, name: str) -> Tensor:
    """Layer norm over the last axis, or batch norm with stored statistics over it."""
    if f"{name}.running_mean" in state:
        values = (values - state[f"{name}.running_mean"]) / (state[f"{name}.running_var"] + 1e-5).sqrt()
    else:
        values = (values - values.mean(-1, keepdim=True)) / (values.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    return values * state[f"{name}.weight"] + state[f"{name}.bias"]


def apply_linear(values: Tensor, state: State, name: str) -> Tensor:
    weight = state[f"{name}.weight"]
    found = values @ weight.reshape(len(weight), -1).T
    return found + state[f"{name}.bias"] if f"{name}.bias" in state else found


def gelu(values: Tensor) -> Tensor:
    return values * 0.5 * (1 + torch.erf(values / math.sqrt(2)))


def attention(tokens: Tensor, state: State, qkv: str, proj: str, heads: int) -> Tensor:
    query, key, value = apply_linear(tokens, state, qkv).chunk(3, dim=-1)
    width = tokens.shape[-1] // heads
    mixed = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        shares = (query[:, part] @ key[:, part].T / math.sqrt(width)).softmax(dim=-1)
        mixed.append(shares @ value[:, part])
    return apply_linear(torch.cat(mixed, dim=-1), state, proj)


def ulip_twin(state: State, cloud: Tensor, *, depth: int, colour: bool, centres: int = 512) -> Tensor:
    """Encode one cloud (N, 3), centred, largest norm 1, to (E,)."""
    weights = {name.removeprefix("point_encoder."): value.double() for name, value in state.items()}
    points = cloud.numpy().astype(np.float32)
    chosen = farthest(points, centres, 0, 1e-3)
    tokens = []
    for centre in chosen:
        squared = ((points - points[centre]) ** 2).sum(axis=1)
        nearest = squared.argsort(kind="stable")[:32]
        group = torch.from_numpy(points[nearest] - points[centre]).double()
        if colour:
            group = torch.cat([group, torch.full((32, 3), 0.4, dtype=torch.double)], dim=1)
        local = standardise(apply_linear(group, weights, "encoder.first_conv.0"), weights, "encoder.first_conv.1").relu()
        local = apply_linear(local, weights, "encoder.first_conv.3")
        both = torch.cat([local.amax(dim=0).expand(32, -1), local], dim=1)
        mixed = standardise(apply_linear(both, weights, "encoder.second_conv.0"), weights, "encoder.second_conv.1").relu()
        tokens.append(apply_linear(mixed, weights, "encoder.second_conv.3").amax(dim=0))
    sequence = torch.cat([weights["cls_token"][0], apply_linear(torch.stack(tokens), weights, "reduce_dim")])
    places = gelu(apply_linear(torch.from_numpy(points[chosen]).double(), weights, "pos_embed.0"))
    positions = torch.cat([weights["cls_pos"][0], apply_linear(places, weights, "pos_embed.2")])
    heads = sequence.shape[1] // 64
    for layer in range(depth):
        block = f"blocks.blocks.{layer}"
        sequence = sequence + positions
        sequence = sequence + attention(standardise(sequence, weights, f"{block}.norm1"), weights, f"{block}.attn.qkv", f"{block}.attn.proj", heads)
        hidden = gelu(apply_linear(standardise(sequence, weights, f"{block}.norm2"), weights, f"{block}.mlp.fc1"))
        sequence = sequence + apply_linear(hidden, weights, f"{block}.mlp.fc2")
    sequence = standardise(sequence, weights, "norm")
    return torch.cat([sequence[0], sequence[1:].amax(dim=0)]) @ weights["pc_projection"]


def openshape_twin(state: State, cloud: Tensor, *, depth: int, centres: int, radius: float, samples: int, swap: bool, colour: bool = True) -> Tensor:
    """Encode one cloud (N, 3), y up, centred, largest norm 1, to (E,); the first centre is the point farthest from the origin, not a random one."""
    weights = {name.removeprefix("ppat."): value.double() for name, value in state.items()}
    points = cloud.numpy().astype(np.float32).copy()
    if swap:
        points[:, [1, 2]] = points[:, [2, 1]]
    chosen = farthest(points, centres, int((points**2).sum(axis=1).argmax()))
    tokens = []
    for centre in chosen:
        inside = np.flatnonzero(((points - points[centre]) ** 2).sum(axis=1) <= radius**2).tolist()[:samples]
        inside += [inside[0]] * (samples - len(inside))
        places = torch.from_numpy(points[inside]).double()
        parts = [places - torch.from_numpy(points[centre]).double(), places, *([torch.full_like(places, 0.4)] if colour else [])]
        hidden = torch.cat(parts, dim=1)
        for layer in range(3):
            hidden = standardise(apply_linear(hidden, weights, f"sa.mlp_convs.{layer}"), weights, f"sa.mlp_bns.{layer}").relu()
        tokens.append(hidden.amax(dim=0))
    lifted = torch.cat([torch.from_numpy(points[chosen]).double(), torch.stack(tokens)], dim=1)
    lifted = standardise(apply_linear(lifted, weights, "lift.0"), weights, "lift.2")
    sequence = torch.cat([weights["cls_token"][None], lifted])
    for layer in range(depth):
        first, second = f"transformer.layers.{layer}.0", f"transformer.layers.{layer}.1"
        mixed = attention(standardise(sequence, weights, f"{first}.norm"), weights, f"{first}.fn.to_qkv", f"{first}.fn.to_out.0",
                          sequence.shape[1] // 64)
        sequence = sequence + mixed
        hidden = gelu(apply_linear(standardise(sequence, weights, f"{second}.norm"), weights, f"{second}.fn.net.0"))
        sequence = sequence + apply_linear(hidden, weights, f"{second}.fn.net.3")
    return apply_linear(sequence[0], weights, "proj") if "proj.weight" in weights else sequence[0]


def slip_text_twin(state: State, tokens: Tensor, heads: int, layers: int) -> Tensor:
    """Encode one row of tokens (77,) as ULIP's encode_text does, with QuickGELU and causal attention."""
    weights = {name: value.double() for name, value in state.items()}
    sequence = weights["token_embedding.weight"][tokens] + weights["positional_embedding"]
    width = sequence.shape[1] // heads
    for layer in range(layers):
        block = f"transformer.resblocks.{layer}"
        given = standardise(sequence, weights, f"{block}.ln_1") @ weights[f"{block}.attn.in_proj_weight"].T + weights[f"{block}.attn.in_proj_bias"]
        mixed = []
        for head in range(heads):
            query, key, value = (part[:, head * width:(head + 1) * width] for part in given.chunk(3, dim=-1))
            scores = query @ key.T / math.sqrt(width)
            scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -math.inf)
            mixed.append(scores.softmax(dim=-1) @ value)
        sequence = sequence + apply_linear(torch.cat(mixed, dim=-1), weights, f"{block}.attn.out_proj")
        hidden = apply_linear(standardise(sequence, weights, f"{block}.ln_2"), weights, f"{block}.mlp.c_fc")
        sequence = sequence + apply_linear(hidden * torch.sigmoid(1.702 * hidden), weights, f"{block}.mlp.c_proj")
    return standardise(sequence, weights, "ln_final")[int(tokens.argmax())] @ weights["text_projection"]
