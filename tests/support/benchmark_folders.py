"""Small data sets in the official layouts of the benchmarks."""

import base64
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from models.common.errors import InputError
from training.data.benchmarks import Benchmark, load
from training.data.benchmarks import cirr as cirr_loader
from training.data.benchmarks import cvlue as cvlue_loader
from training.data.benchmarks import flickr30k_cn as flickr30k_cn_loader
from training.data.benchmarks import wikipedia as wikipedia_loader
from training.data.benchmarks import xm3600 as xm3600_loader

ZHM = "flickr30kzhmbosontest"
FLICKR_CAPTIONS = f"{ZHM}/TextData/seg.{ZHM}.caption.txt"
CIRR_CAPTIONS = "captions/cap.rc2.val.json"
CVLUE_TEST = "new_dataset/IC/new_test.json"
WIKIPEDIA_DOCUMENTS = "testset_txt_img_cat.list"


def flickr30k_cn(folder: Path) -> None:
    write(folder, f"{ZHM}/ImageSets/{ZHM}.txt", "1007129816\n1009434119\n")
    write(
        folder,
        FLICKR_CAPTIONS,
        "1007129816#zhm#0 一个:mq 戴着:v Bud:nx Light:nx 帽子:n 的:uj 男人:n ，:wd\n"
        "1007129816#zhm#1 一:m 只:q 橙色:n 的:uj 帽子:n\n"
        "1009434119#zhm#0 一:m 只:q 黑白:n 的:uj 狗:n\n",
    )
    for picture in ("1007129816", "1009434119", "42"):  # the last is in another split
        paint(folder / f"flickr30k-images/{picture}.jpg")


def chinese_clip(folder: Path) -> None:
    lines = [
        {"text_id": 0, "text": "一只黑白的狗", "image_ids": [1009434119]},
        {"text_id": 1, "text": "户外", "image_ids": [1009434119, 1007129816]},
    ]
    write(folder, "test_texts.jsonl", jsonl(lines))
    packed = base64.b64encode(picture_bytes("JPEG")).decode()
    write(folder, "test_imgs.tsv", f"1009434119\t{packed}\n1007129816\t{packed}\n")


def cvlue(folder: Path) -> None:
    panda, cow = "images/test/A/1-panda/A-1-34.png", "images/test/A/2-cow/A-2-270.png"
    entries = [
        {"image": panda, "caption": ["四只熊猫在地上玩耍", "户外的动物"]},
        {"image": cow, "caption": ["草地上站着三头牛", "户外的动物"]},
    ]
    write(folder, CVLUE_TEST, json.dumps(entries, ensure_ascii=False, indent=2))
    for picture in (panda, cow):
        paint(folder / "pics" / picture)


def xm3600(folder: Path) -> None:
    lines = []
    for key in ("d89a4889331ce042", "74f94963ee1e135d"):
        captions = {
            code: {
                "caption": [f"{code} {key} {number}" for number in range(1 if code == "bn" else 2)],
                "caption/tokenized": [],
                "caption/tokenized/lowercase": [],
            }
            for code in xm3600_loader.LANGUAGES
        }
        lines.append({"image/key": key, "image/locale": "ar", **captions})
        paint(folder / f"images/{key}.jpg")
    write(folder, "captions.jsonl", jsonl(lines))


def xm3600_hub(folder: Path, languages: Iterable[str]) -> None:
    """The columns that mteb's task reads from its copy on the hub, one split per language."""
    import datasets

    keys = ("d89a4889331ce042", "74f94963ee1e135d")
    for code in languages:
        captions = [[f"{code} {key} {number}" for number in range(2)] for key in keys]
        columns = {
            "image_id": list(keys),
            "image_locale": ["ar"] * len(keys),
            "captions": captions,
            "captions_tokenized": captions,
            "captions_tokenized_lowercase": captions,
            "image": [{"bytes": picture_bytes("JPEG"), "path": f"{key}.jpg"} for key in keys],
        }
        table = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
        (folder / "data").mkdir(parents=True, exist_ok=True)
        table.to_parquet(folder / f"data/{code}-00000-of-00001.parquet")


def wikipedia(folder: Path) -> None:
    write(folder, WIKIPEDIA_DOCUMENTS, "0a1b-2.3\taaaa\t1\n0c2d-4\tbbbb\t10\n")
    # Not well-formed: a bare ampersand.
    write(folder, "texts/0a1b-2.3.xml", xml("Rembrandt & his pupils\n\npainted &quot;it&quot;."))
    write(folder, "texts/0c2d-4.xml", xml("The battle."))
    paint(folder / "images/art/aaaa.jpg")
    paint(folder / "images/warfare/bbbb.jpg")


def cirr(folder: Path) -> None:
    ids = [f"dev-{number}-0-img0" for number in range(7)]
    pair = {
        "pairid": 12060,
        "reference": ids[4],
        "target_hard": ids[2],
        "target_soft": {ids[2]: 1.0, ids[3]: -1.0},
        "caption": "show three bottles of soft drink",
        "img_set": {"id": 36, "members": ids[:6], "reference_rank": 2, "target_rank": 3},
    }
    write(folder, CIRR_CAPTIONS, json.dumps([pair]))
    split = {picture: f"./dev/{picture}.png" for picture in ids}
    write(folder, "image_splits/split.rc2.val.json", json.dumps(split))
    for picture in ids:
        paint(folder / f"img_raw/dev/{picture}.png")


def write(folder: Path, relative: str, text: str) -> None:
    path = folder / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def edit(folder: Path, relative: str, old: str, new: str) -> None:
    """Breaks a file by replacing ``old``, which must occur in it."""
    text = (folder / relative).read_text(encoding="utf-8")
    assert old in text
    write(folder, relative, text.replace(old, new, 1))


def jsonl(records: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def xml(text: str) -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8" ?>\n<document name="a"><imageset>'
        f'<image id="a"/></imageset>\n<text>\n{text}\n</text></document>\n'
    )


def paint(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture_bytes("PNG" if path.suffix == ".png" else "JPEG"))


def picture_bytes(kind: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 3), "red").save(out, kind)
    return out.getvalue()


WRITERS: dict[str, Callable[[Path], None]] = {
    "flickr30k-cn": flickr30k_cn,
    "cvlue": cvlue,
    "xm3600": xm3600,
    "wikipedia": wikipedia,
    "cirr": cirr,
}
MODULES: dict[str, ModuleType] = {
    "flickr30k-cn": flickr30k_cn_loader,
    "cvlue": cvlue_loader,
    "xm3600": xm3600_loader,
    "wikipedia": wikipedia_loader,
    "cirr": cirr_loader,
}
FILES = [
    ("flickr30k-cn", FLICKR_CAPTIONS),
    ("flickr30k-cn", f"{ZHM}/ImageSets/{ZHM}.txt"),
    ("cvlue", CVLUE_TEST),
    ("xm3600", "captions.jsonl"),
    ("wikipedia", WIKIPEDIA_DOCUMENTS),
    ("wikipedia", "texts/0c2d-4.xml"),
    ("cirr", CIRR_CAPTIONS),
    ("cirr", "image_splits/split.rc2.val.json"),
]
# Benchmark, file, text to replace, replacement, and the start of the error.
BROKEN = [
    ("flickr30k-cn", FLICKR_CAPTIONS, "6#zhm#1", "6 1", "line 2: '<id>#zhm#"),
    ("cvlue", CVLUE_TEST, '"image": "images/test/A/2', '"image" "', "line 10: not JSON"),
    ("cvlue", CVLUE_TEST, '"caption"', '"captions"', "entry 1: caption: Field req"),
    ("xm3600", "captions.jsonl", '{"image/key": "74', '{"image/key" "74', "line 2: not JSON"),
    ("xm3600", "captions.jsonl", "image/key", "key", "line 1: image/key: Field required"),
    ("xm3600", "captions.jsonl", '"quz": {', '"qu": {', "line 1: languages.quz: Input"),
    ("xm3600", "captions.jsonl", "\n", "\n[]\n", "line 2: entry: Input"),
    ("wikipedia", WIKIPEDIA_DOCUMENTS, "\t10", "\t11", "line 2: a text's id"),
    ("wikipedia", WIKIPEDIA_DOCUMENTS, "\taaaa", " aaaa", "line 1: a text's id"),
    ("wikipedia", "texts/0c2d-4.xml", "<text>", "<txt>", "line 1: no words"),
    ("cirr", CIRR_CAPTIONS, "[{", "{", "line 1: not JSON"),
    ("cirr", CIRR_CAPTIONS, "members", "ids", "entry 1: img_set.members: Field"),
    ("cirr", CIRR_CAPTIONS, '"target_hard": "dev-2', '"target_hard": "dev-6',
     "entry 1: entry: Value error, img_set.members must hold"),
    ("cirr", CIRR_CAPTIONS, '"reference": "dev-4', '"reference": "dev-2', "entry 1: entry: Value"),
    ("cirr", "image_splits/split.rc2.val.json", "{", "[{", "line 1: not JSON"),
    ("cirr", "image_splits/split.rc2.val.json", '"./dev/dev-0-0-img0.png"', "7",
     "line 1: pictures.dev-0-0-img0: Input should be a valid string"),
]  # fmt: skip


def small(name: str, folder: Path) -> Benchmark:
    """Writes the small benchmark and loads it, without checking for the official counts."""
    WRITERS[name](folder)
    return load(name, folder, check_counts=False)


def refusal(name: str, folder: Path, check_counts: bool = False) -> str:
    with pytest.raises(InputError) as caught:
        load(name, folder, check_counts)
    return str(caught.value)
