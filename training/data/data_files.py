"""Where the data of a config are: `<root>/<dataset>/<preset>/`, and what its stage files say.

A root may be a bundle, see `bundles`.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .bundles import songs_file, unpack_bundle


@dataclass(frozen=True)
class DataFiles:
    """One tokenized dataset on disk.

    Attributes:
        folder: `<root>/<dataset>/<preset>`.
        dataset: Its real name, even if the config says `latest`.
        block_length: T.
        n_blocks: Blocks in train.npy.
        vocab_size: V.
        digest: Digest of the blocks stage; it covers inputs, settings and code of all stages.
        former_digests: Earlier digests of the same files, byte for byte.
    """

    folder: Path
    dataset: str
    block_length: int
    n_blocks: int
    vocab_size: int
    digest: str
    former_digests: tuple[str, ...] = ()

    @property
    def digests(self) -> tuple[str, ...]:
        """All digests of the data, the current one first."""
        return (self.digest, *self.former_digests)

    @property
    def train_blocks(self) -> Path:
        """uint16 (n_blocks, T)."""
        return self.folder / "6_blocks" / "train.npy"

    @property
    def tokens(self) -> Path:
        """Folder with the tokenizer and the songs as ids."""
        return self.folder / "5_tokens"


def check_files(files: DataFiles) -> None:
    """Check what a run reads against its stage files; a flipped byte would be learned unnoticed.

    `data_prep.storage.stages` does the same between its stages; training imports nothing from it.

    Raises:
        ValueError: If a file is damaged; names it.
    """
    for stage, names in (
        (files.tokens, ("tokenizer.json", songs_file(files.tokens, "validation").name)),
        (files.train_blocks.parent, (files.train_blocks.name,)),
    ):
        said = json.loads((stage / "stage.json").read_text(encoding="utf-8")).get("files")
        if not said:
            raise ValueError(f"{stage / 'stage.json'} lists no files: older data; run `make data`")
        for name in names:
            if name not in said:
                raise ValueError(
                    f"{stage / 'stage.json'} does not list {name}; remove its folder and run "
                    "`make data`"
                )
            with (stage / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != said[name]["sha256"]:
                raise ValueError(
                    f"{stage / name} is damaged: found sha256 {found[:12]}, stage.json says "
                    f"{said[name]['sha256'][:12]}; remove {stage} and run `make data`"
                )


def locate_data(config: dict[str, Any]) -> DataFiles:
    """Find the data that a config names.

    Raises:
        FileNotFoundError: If the dataset or its preset is missing; names the command that makes it.
        ValueError: If the stage file is damaged.
    """
    data = config["data"]
    root = Path(data["root"])
    if root.is_file():
        root = unpack_bundle(root)
    dataset_folder = root / data["dataset"]
    if not dataset_folder.exists():
        made = sorted(p.name for p in root.glob("*/"))
        there = f" ({data['root']} contains {', '.join(made)})" if made else ""
        raise FileNotFoundError(
            f"dataset {dataset_folder} not found{there}; make it with "
            "`make data MUSIC=<folder, archive, or music21>`"
        )
    dataset = dataset_folder.resolve().name
    folder = root / dataset / data["preset"]
    needed = ("6_blocks/stage.json", "6_blocks/train.npy", "5_tokens/tokenizer.json")
    for path in map(folder.joinpath, needed):
        if not path.is_file():
            music = dataset if dataset == "music21" else f"<the music of {dataset}>"
            command = f"make data MUSIC={music} DATA=configs/data/{data['preset']}.yaml"
            raise FileNotFoundError(f"{path} not found; make it with `{command}`")
    stage_file = folder / needed[0]
    try:
        stage = json.loads(stage_file.read_text(encoding="utf-8"))
        facts = {key: stage[key] for key in ("block_length", "n_blocks", "vocab_size", "digest")}
        facts["former_digests"] = tuple(stage.get("former_digests", ()))
    except (json.JSONDecodeError, KeyError) as err:
        raise ValueError(
            f"{stage_file} is damaged ({err!r}); remove it and run `make data`"
        ) from None
    return DataFiles(folder=folder, dataset=dataset, **facts)
