"""A small synthetic results folder for tests of the figures: runs from a known law, and more."""

import csv
import json
import math
from pathlib import Path

import numpy as np

from scaling import fit

SIZES = (3_000, 14_000, 39_000, 99_000, 330_000, 790_000)
TOKENS = (1_500_000, 3_000_000, 6_000_000, 12_000_000)
LAWS = {"gpt": (0.55, 6.0, 0.38, 90.0, 0.36), "lstm": (0.62, 3.2, 0.33, 60.0, 0.36)}
SEEDS = (1, 2)
POSITIONS = [1, 2, 4, 16, 64, 256, 1024]


def loss_of(arch: str, n_params: float, n_tokens: float) -> float:
    """E + A/N^alpha + B/D^beta."""
    floor, a, alpha, b, beta = LAWS[arch]
    return floor + a / n_params**alpha + b / n_tokens**beta


def make_results(folder: Path) -> Path:
    """Writes everything that scaling.plots draws."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    runs, curves = [], []
    for arch in LAWS:
        for n_params in SIZES:
            for seed in SEEDS:
                trunk = f"{arch}_{n_params}_t12M_s{seed}"
                for n_tokens in TOKENS:
                    is_trunk = n_tokens == TOKENS[-1]
                    runs.append(
                        {
                            "run": trunk if is_trunk else f"{trunk}_t{n_tokens}",
                            "arch": arch,
                            "seed": seed,
                            "n_params": n_params,
                            "n_tokens": n_tokens,
                            "loss": loss_of(arch, n_params, n_tokens)
                            * math.exp(rng.normal(0, 0.004)),
                            "flops": 7.0 * n_params * n_tokens,
                            "trunk": trunk,
                        }
                    )
                for n_tokens in np.geomspace(5e4, 12e6, 20).astype(int):
                    loss = loss_of(arch, n_params, n_tokens)
                    point = {"run": trunk, "n_tokens": n_tokens, "loss_nats_per_token": loss}
                    curves.append(point | {"validation_loss_nats_per_token": ""})
                end = {"run": trunk, "n_tokens": 12_000_000, "loss_nats_per_token": ""}
                curves.append(end | {"validation_loss_nats_per_token": loss + 0.02})
    _write_csv(folder / "runs.csv", runs)
    _write_csv(folder / "curves.csv", curves)
    laws = ["--law", "power", "chinchilla"]
    assert fit.main([str(folder / "runs.csv"), "--bootstrap", "100", *laws]) == 0
    for name, content in {
        "learning_rates": _learning_rates(),
        "context_use": _context(("gpt", "lstm"), (3_000, 790_000), (256,)),
        "context_length": _context(("gpt", "lstm"), (99_000,), (256, 1024)),
        "leakage": _leakage(),
        "tokenizers": _tokenizers(),
        "loss_and_music": _loss_and_music(),
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def _write_csv(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _learning_rates() -> dict:
    families = {}
    for arch in LAWS:
        sizes = []
        for n_params in SIZES[1::2]:
            best = 0.2 * n_params**-0.33
            rates = [best * 2.0**k for k in (-2, -1, 0, 1, 2)]
            losses = [loss_of(arch, n_params, 3e6) + 0.03 * k**2 for k in (-2, -1, 0, 1, 2)]
            # the highest rate of the smallest size diverged
            losses[-1] = None if n_params == SIZES[1] else losses[-1]
            sizes.append(
                {"size": f"d{n_params}", "n_params": n_params, "n_tokens": 3_000_000}
                | {"rates": rates, "losses": losses, "best_rate": best, "at_edge": False}
                | {"rate_by_rule": 0.9 * best}
            )
        families[f"abc_{arch}"] = {"sizes": sizes, "rule": {"c": -1.6, "g": 0.33}}
    return {"sweep": {"digest": "x"}, "families": families}


def _facts(arch: str, n_params: int, seed: int, context: int = 256) -> dict:
    return {
        "run": f"{arch}_{n_params}_t12M_s{seed}",
        "arch": arch,
        "size": f"{arch}_{n_params}",
        "seed": seed,
        "n_params": n_params,
        "n_tokens": 12_000_000,
        "context_length": context,
        "validation_loss_nats_per_token": loss_of(arch, n_params, 12e6),
    }


def _with_interval(key: str, value: float, half: float) -> dict:
    return {key: value, "interval_95": [value - half, value + half]}


def _context(archs: tuple[str, ...], sizes: tuple[int, ...], contexts: tuple[int, ...]) -> dict:
    runs, differences = [], []
    for arch in archs:
        whole = {"gpt": "stride", "lstm": "carried"}[arch]
        for n_params in sizes:
            for context in contexts:
                end = context if arch == "gpt" else 1024
                level = loss_of(arch, n_params, 12e6)
                row = _facts(arch, n_params, 1, context)
                row["ways"] = {name: _curve(level, 1024) for name in (whole, "reset")}
                row["ways"]["crops"] = _curve(level, end)
                runs.append(row)
        if len(contexts) > 1:
            keys = {"arch": arch, "size": f"{arch}_{sizes[0]}", "seed": 1, "way": whole}
            keys["contexts"] = list(contexts)
            differences += [
                keys | {"from": low, "to": high} | _with_interval("difference", -0.01, 0.004)
                for low, high in ((1, 256), (257, 1024), (1, 1024))
            ]
    settings = {"songs": 100, "positions": 1024, "crops": 4, "seed": 1, "split": "validation"}
    settings |= {"n_songs": 90}
    return {"settings": settings, "runs": runs, "context_differences": differences}


def _curve(level: float, last: int) -> dict:
    t = [position for position in POSITIONS if position <= last]
    loss = [level + 1 / position for position in t]
    return {
        "from": t,
        "to": t,
        "t": t,
        "loss": loss,
        "interval_95": [[value - 0.05 for value in loss], [value + 0.05 for value in loss]],
        "t90": {"value": 10.0, "interval_95": [8.0, 12.0]},
        "stops_at": 64 if last == 1024 else None,
    }


def _leakage() -> dict:
    runs = []
    for arch in LAWS:
        for n_params in (SIZES[0], SIZES[-1]):
            level = loss_of(arch, n_params, 12e6)
            row = _facts(arch, n_params, 1) | {"n_songs": {"all": 470, "copied": 68, "clean": 402}}
            row["loss_nats_per_token"] = {
                group: _with_interval("loss", level + shift, 0.03)
                for group, shift in (("all", 0.0), ("copied", -0.03), ("clean", 0.005))
            }
            row["gap_nats_per_token"] = {"clean_less_all": _with_interval("gap", 0.005, 0.004)}
            runs.append(row)
    return {"split": "validation", "seed": 1, "runs": runs}


def _tokenizers() -> dict:
    runs, differences = [], []
    for arch in LAWS:
        for name, bits, chars in (("char", 7.6, 1.0), ("note", 7.2, 1.8), ("bpe", 7.9, 3.9)):
            row = _facts(arch, 99_000, 1) | {"tokenizer": name, "vocab_size": 61}
            row |= {"n_chars_seen": 12e6, "context_chars": 256 * chars}
            runs.append(row | {"bits_per_note": _with_interval("value", bits, 0.1)})
            if name != "char":
                difference = {"arch": arch, "tokenizer": name, "run": "a", "less": "b"}
                differences.append(difference | _with_interval("bits_per_note", bits - 7.6, 0.05))
    content = {"split": "validation", "seed": 1, "n_songs": 432}
    return content | {"runs": runs, "differences": differences}


def _loss_and_music() -> dict:
    names = ("distance", "valid_without_grammar", "masked_probability", "memorised")
    runs = [
        _facts(arch, n_params, 1)
        | {name: _with_interval("value", 0.5 - 0.1 * k, 0.02) for k, name in enumerate(names)}
        for arch in LAWS
        for n_params in SIZES
    ]
    runs[0]["valid_without_grammar"] = {"value": None, "interval_95": None}
    settings = {"n": 200, "seed": 1, "max_new_tokens": 512}
    correlation = {"all": {"n": len(runs), **dict.fromkeys(names, 0.9)}}
    return {"settings": settings, "rank_correlation": correlation, "runs": runs}
