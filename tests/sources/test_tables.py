"""Image-level labels in the forms that tools write. Each form says where it is documented."""

import codecs
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cpal.settings.data import DataConfig
from cpal.sources.folder import list_folder
from cpal.sources.listing import Listing
from cpal.sources.tables.file_names import FileNames
from cpal.sources.tables.read import read_table
from cpal.sources.tables.rows import Reading

FILES = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")
SHOWN = {"a.jpg": "cat", "b.jpg": "cat dog", "c.jpg": "dog", "d.jpg": ""}


@pytest.fixture
def listed(data_settings: Callable[..., DataConfig], tmp_path: Path) -> Callable[..., Listing]:
    """`listed("image,labels\\n...")`: the listing of pictures a, b, c, d with this file of labels."""

    def run(content: str | bytes, files: tuple[str, ...] = FILES, **changes: Any) -> Listing:
        for file in files:
            (tmp_path / "images" / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "images" / file).touch()
        (tmp_path / "labels.csv").write_bytes(content.encode() if isinstance(content, str) else content)
        values = {"source": "folder", "images": "images", "labels": "csv", "labels_file": "labels.csv", "masks": None}
        return list_folder(data_settings(**(values | {"root": str(tmp_path)} | changes)), seed=0)

    return run


def shown(listing: Listing) -> dict[str, str]:
    """Names by file, in order, with a blank between."""
    assert listing.problems == ()
    return {
        item.image.name: " ".join(sorted(item.names or ())) for item in sorted(listing.images, key=lambda i: i.image)
    }


ROBOFLOW = "filename, cat, dog\na.jpg, 1, 0\nb.jpg, 1, 1\nc.jpg, 0, 1\nd.jpg, 0, 0\n"
TASKS: list[Any] = [  # labelstud.io/guide/task_format; an upload gets eight digits in front of its name
    {
        "id": n,
        "data": {"image": f"/data/upload/3/1b2c3d4{n}-{file}"},
        "annotations": [
            {
                "id": n,
                "was_cancelled": False,
                "result": [
                    {"from_name": "x", "to_name": "image", "type": "choices", "value": {"choices": names.split()}}
                ]
                if names
                else [],
            }
        ],
        "predictions": [],
    }
    for n, (file, names) in enumerate(SHOWN.items())
]
SHORT_TASKS = [  # labelstud.io/guide/export, JSON-MIN: one choice is text, several are an object
    {
        "image": f"/data/local-files/?d=images/{file}",
        "id": n,
        **({"choice": names if " " not in names else {"choices": names.split()}} if names else {}),
        "annotator": 1,
        "annotation_id": n,
        "created_at": "2024-01-02T10:00:00.000000Z",
        "updated_at": "2024-01-02T10:00:00.000000Z",
        "lead_time": 2.5,
    }
    for n, (file, names) in enumerate(SHOWN.items())
]
COCO: dict[str, Any] = {  # Roboflow's: a root category that no annotation uses
    "info": {"year": "2024"},
    "licenses": [],
    "categories": [
        {"id": 0, "name": "animals", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "animals"},
        {"id": 2, "name": "dog", "supercategory": "animals"},
        {"id": 3, "name": "dog", "supercategory": "animals"},
    ],
    "images": [{"id": n, "file_name": file} for n, file in enumerate(SHOWN)],
    "annotations": [
        {"id": 1, "image_id": 0, "category_id": 1},
        {"id": 2, "image_id": "1", "category_id": "1"},
        {"id": 3, "image_id": 1, "category_id": 2},
        {"id": 4, "image_id": 2, "category_id": 3},
    ],
}
CVAT = (  # docs.cvat.ai/docs/other/xml_format, "CVAT for images 1.1"
    '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version><meta><task></task></meta>'
    '<image id="0" name="images/a.jpg" width="9" height="9"><tag label="cat" source="manual"></tag></image>'
    '<image id="1" name="images/b.jpg" width="9" height="9"><tag label="cat" source="manual"></tag>'
    '<box label="dog" source="manual" occluded="0" xtl="1" ytl="1" xbr="5" ybr="5" z_order="0"></box></image>'
    '<image id="2" name="images/c.jpg" width="9" height="9"><tag label="dog" source="manual"></tag></image>'
    '<image id="3" name="images/d.jpg" width="9" height="9"></image></annotations>'
)
# robots.ox.ac.uk/~vgg/software/via: "Export Annotations (as json)"; keys are name and size of the file in bytes.
VIA: dict[str, Any] = {
    f"{file}{n}": {
        "filename": file,
        "size": n,
        "regions": [
            {
                "shape_attributes": {"name": "rect", "x": 1, "y": 1, "width": 5, "height": 5},
                "region_attributes": {"animal": name},
            }
            for name in names.split()
        ],
        "file_attributes": {},
    }
    for n, (file, names) in enumerate(SHOWN.items(), 1)
}
VIA_PROJECT = {
    "_via_settings": {"ui": {}, "core": {"default_filepath": ""}, "project": {"name": "x"}},
    "_via_img_metadata": {
        key: entry
        | {
            "regions": [],
            "file_attributes": {"class": {{"cat": "1", "dog": "2"}[n]: True for n in names.split()}, "by": "me"},
        }
        for (key, entry), names in zip(VIA.items(), SHOWN.values(), strict=True)
    },
    "_via_attributes": {
        "region": {},
        "file": {
            "class": {
                "type": "checkbox",
                "description": "",
                "options": {"1": "cat", "2": "dog"},
                "default_options": {},
            },
            "by": {"type": "text", "description": "", "default_value": ""},
        },
    },
    "_via_data_format_version": "2.0.10",
    "_via_image_id_list": list(VIA),
}
VIA_CSV = (
    "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
    + "".join(
        f'{entry["filename"]},{entry["size"]},"{{}}",{len(entry["regions"])},{n},{shape},{attributes}\n'
        for entry in VIA.values()
        for n, (shape, attributes) in enumerate(
            [
                tuple(
                    '"' + json.dumps(region[key]).replace('"', '""') + '"'
                    for key in ("shape_attributes", "region_attributes")
                )
                for region in entry["regions"]
            ]
            or [('"{}"', '"{}"')]
        )
    )
)
# docs.cvat.ai and open-edge-platform.github.io/datumaro: "Datumaro 1.0"
DATUMARO = {
    "info": {},
    "categories": {"label": {"labels": [{"name": "cat", "parent": ""}, {"name": "dog", "parent": ""}]}},
    "items": [
        {
            "id": file[0],
            "annotations": [
                {
                    "id": n,
                    "type": "bbox",
                    "group": 0,
                    "label_id": ["cat", "dog"].index(name),
                    "bbox": [1.0, 1.0, 5.0, 5.0],
                }
                for n, name in enumerate(names.split())
            ],
            "image": {"path": f"images/{file}", "size": [9, 9]},
        }
        for file, names in SHOWN.items()
    ],
}
GROUND_TRUTH = "".join(  # docs.aws.amazon.com/sagemaker/latest/dg/sms-data-output.html, multi-label classification
    json.dumps(
        {
            "source-ref": f"s3://bucket/images/{file}",
            "animals": [["cat", "dog"].index(name) for name in names.split()],
            "animals-metadata": {
                "job-name": "labeling-job/animals",
                "class-map": {str(["cat", "dog"].index(name)): name for name in names.split()},
                "human-annotated": "yes",
                "type": "groundtruth/image-classification-multilabel",
            },
        }
    )
    + "\n"
    for file, names in SHOWN.items()
)
GROUND_TRUTH_BOXES = "".join(  # the same page, bounding box job output
    json.dumps(
        {
            "source-ref": f"s3://bucket/images/{file}",
            "boxes": {
                "image_size": [{"width": 9, "height": 9, "depth": 3}],
                "annotations": [
                    {"class_id": ["cat", "dog"].index(name), "left": 1, "top": 1, "width": 5, "height": 5}
                    for name in names.split()
                ],
            },
            "boxes-metadata": {"class-map": {"0": "cat", "1": "dog"}, "type": "groundtruth/object-detection"},
        }
    )
    + "\n"
    for file, names in SHOWN.items()
)
CONFIDENCES: dict[
    str, tuple[Any, dict[str, Any]]
] = {  # the same page, what the metadata of three kinds of jobs say of an image's cat and dog
    "one class": (1, {"class-name": "dog", "confidence": 0.9}),
    "several classes": ([0, 1], {"class-map": {"0": "cat", "1": "dog"}, "confidence-map": {"0": 0.4, "1": 0.9}}),
    "boxes": (
        {"annotations": [{"class_id": 0}, {"class_id": 1}]},
        {"class-map": {"0": "cat", "1": "dog"}, "objects": [{"confidence": 0.4}, {"confidence": 0.9}]},
    ),
    "boxes without confidence": ({"annotations": [{"class_id": 1}]}, {"class-map": {"0": "cat", "1": "dog"}}),
}


def manifest(**images: tuple[Any, dict[str, Any]]) -> str:
    lines = ({"source-ref": f"s3://x/{name}.jpg", "job": job, "job-metadata": of} for name, (job, of) in images.items())
    return "".join(json.dumps(line) + "\n" for line in lines)


def regions(names: str) -> str:
    """Cell of a table with Label Studio's boxes: labelstud.io/guide/export, CSV."""
    boxes = [{"x": 1.5, "y": 2, "width": 9, "height": 9, "rotation": 0, "rectanglelabels": [n]} for n in names.split()]
    return '"' + json.dumps(boxes).replace('"', '""') + '"'


FORMS: dict[str, str | bytes] = {
    "plain": "image,labels\na.jpg,cat\nb.jpg,cat;dog\nc.jpg,dog\nd.jpg,\n",
    "comma": 'image,labels\na.jpg,cat\nb.jpg,"cat,dog"\nc.jpg,dog\nd.jpg,\n',
    "bar": "image,labels\na.jpg,cat\nb.jpg,cat|dog\nc.jpg,dog\nd.jpg,\n",
    "blank": "image,labels\na.jpg,cat\nb.jpg,cat dog\nc.jpg,dog\nd.jpg,\n",
    "Python's lists": "image,labels\na.jpg,['cat']\nb.jpg,\"['cat', 'dog']\"\nc.jpg,['dog']\nd.jpg,[]\n",
    "NumPy's lists": "image,labels\na.jpg,['cat']\nb.jpg,['cat' 'dog']\nc.jpg,['dog']\nd.jpg,[]\n",
    "JSON's lists": 'image,labels\na.jpg,"[""cat""]"\nb.jpg,"[""cat"", ""dog""]"\nc.jpg,"[""dog""]"\nd.jpg,[]\n',
    "one row a label": "ImageID,Source,LabelName,Confidence\n"  # storage.googleapis.com/openimages/web/download_v7
    "a,verification,cat,1\na,verification,dog,0\nb,verification,cat,1\nb,verification,dog,1\nc,verification,dog,1\n"
    "d,verification,cat,0\n",
    "boxes": "filename,width,height,class,xmin,ymin,xmax,ymax\n"  # Roboflow's TensorFlow CSV
    "a.jpg,9,9,cat,1,1,5,5\nb.jpg,9,9,cat,1,1,5,5\nb.jpg,9,9,dog,1,1,5,5\nb.jpg,9,9,dog,2,2,5,5\nc.jpg,9,9,dog,1,1,5,5\n"
    "d.jpg,9,9,,,,,\n",
    "RetinaNet": "images/a.jpg,1,1,5,5,cat\nimages/b.jpg,1,1,5,5,cat\nimages/b.jpg,1,2,5,5,dog\n"  # keras-retinanet
    "images/c.jpg,1,1,5,5,dog\nimages/d.jpg,,,,,\n",
    "one column a class": ROBOFLOW,  # Roboflow's "Multi-Label Classification CSV": blanks after commas
    "ticks": "Bild;cat;dog\na;x;\nb;x;x\nc;;x\nd;;\n",
    "minus one": "image_id,cat,dog\na.jpg,1,-1\nb.jpg,1,1\nc.jpg,-1,1\nd.jpg,-1,-1\n",  # CelebA's attributes
    "index": ",image,labels\n0,a.jpg,cat\n1,b.jpg,cat;dog\n2,c.jpg,dog\n3,d.jpg,\n",  # DataFrame.to_csv
    "other words": "Bild;Art\r\na.jpg;cat\r\nb.jpg;cat,dog\r\nc.jpg;dog\r\nd.jpg;\r\n",
    "Excel's sep": 'sep=;\r\nimage;labels\r\na.jpg;cat\r\nb.jpg;"cat;dog"\r\nc.jpg;dog\r\nd.jpg;\r\n',
    "UTF-16": codecs.BOM_UTF16_LE
    + "image\tlabels\na.jpg\tcat\nb.jpg\tcat;dog\nc.jpg\tdog\nd.jpg\t\n".encode("utf-16-le"),
    "UTF-16 without mark": "image\tlabels\na.jpg\tcat\nb.jpg\tcat;dog\nc.jpg\tdog\nd.jpg\t\n".encode("utf-16-le"),
    "no header": "a.jpg,cat\nb.jpg,cat;dog\nc.jpg,dog\nd.jpg,\n",
    "blank lines": "image,labels,,\n\na.jpg,cat,,\nb.jpg,cat;dog,,\nc.jpg,dog,,\nd.jpg,,,\n,,,\n",
    "several columns": "image,label_1,label_2\na.jpg,cat,\nb.jpg,cat,dog\nc.jpg,dog,\nd.jpg,,\n",
    "columns of one name": "image,labels,labels.1\na.jpg,cat,\nb.jpg,cat,dog\nc.jpg,dog,\nd.jpg,,\n",  # read_csv
    "line breaks": 'image,labels\na.jpg,cat\nb.jpg,"cat\ndog"\nc.jpg,dog\nd.jpg,\n',
    "a remark above": "# exported 2024, by me\nimage,labels\na.jpg,cat\nb.jpg,cat;dog\nc.jpg,dog\nd.jpg,\n",
    "Label Studio's CSV": "annotation_id,annotator,choice,created_at,id,image,lead_time,updated_at\n"
    "1,1,cat,2024,1,/data/upload/1/0a1b2c3d-a.jpg,1.5,2024\n"
    '2,1,"{""choices"":[""cat"",""dog""]}",2024,2,/data/upload/1/0a1b2c3d-b.jpg,1.5,2024\n'
    "3,1,dog,2024,3,/data/upload/1/0a1b2c3d-c.jpg,1.5,2024\n4,1,,2024,4,/data/upload/1/0a1b2c3d-d.jpg,1.5,2024\n",
    "Label Studio's CSV of boxes": "image,id,label,annotator\n"
    + "".join(
        f"/data/upload/1/0a1b2c3d-{file},{n},{regions(names)},1\n" for n, (file, names) in enumerate(SHOWN.items())
    ),
    "Datumaro": json.dumps(DATUMARO),
    "Ground Truth's manifest": GROUND_TRUTH,
    "Ground Truth's manifest of boxes": GROUND_TRUTH_BOXES,
    "CelebA's text": "4\ncat dog \na.jpg  1 -1\nb.jpg  1  1\nc.jpg -1  1\nd.jpg -1 -1\n",  # list_attr_celeba.txt
    "R's table": '"cat","dog"\n"a.jpg",1,0\n"b.jpg",1,1\n"c.jpg",0,1\n"d.jpg",0,0\n',  # write.table with row names
    "Label Studio's taxonomy": json.dumps(  # labelstud.io/tags/taxonomy: paths from the root to the choice
        [
            {
                "data": {"image": f"/data/upload/3/1b2c3d4{n}-{file}"},
                "annotations": [
                    {
                        "result": [
                            {
                                "type": "taxonomy",
                                "from_name": "kind",
                                "value": {"taxonomy": [["animal", name] for name in names.split()]},
                            }
                        ]
                        * bool(names)
                    }
                ],
            }
            for n, (file, names) in enumerate(SHOWN.items())
        ]
    ),
    "JSON-MIN of a taxonomy": json.dumps(
        [
            {"image": f"x/{file}", "id": n, "kind": [["animal", name] for name in names.split()], "lead_time": 2.5}
            for n, (file, names) in enumerate(SHOWN.items())
        ]
    ),
    "FiftyOne's labels.json of boxes": json.dumps(  # docs.voxel51.com, FiftyOneImageDetectionDataset
        {
            "classes": ["cat", "dog"],
            "labels": {
                file[0]: [
                    {"label": ["cat", "dog"].index(name), "bounding_box": [0.1, 0.1, 0.5, 0.5]}
                    for name in names.split()
                ]
                or None
                for file, names in SHOWN.items()
            },
        }
    ),
    "images by class": json.dumps({"cat": ["a.jpg", "b.jpg"], "dog": ["b.jpg", "c.jpg"], "": ["d.jpg"]}),
    "objects by image": json.dumps({file: {"labels": names.split(), "width": 9} for file, names in SHOWN.items()}),
    "a sheet with a title": "Spring 2024;;\n;;\nBild;Art;Notiz\na.jpg;cat;\nb.jpg;cat,dog;\nc.jpg;dog;\nd.jpg;;\n",
    "columns about the image": "image,patient_id,sex,cat,dog,total\na.jpg,17,F,1,0,1\nb.jpg,18,M,1,1,2\n"
    "c.jpg,19,F,0,1,1\nd.jpg,20,M,0,0,0\n",
    "CreateML": json.dumps(  # docs.roboflow.com, CreateML JSON
        [
            {
                "image": file,
                "annotations": [
                    {"label": name, "coordinates": {"x": 5, "y": 5, "width": 2, "height": 2}} for name in names.split()
                ],
            }
            for file, names in SHOWN.items()
        ]
    ),
    "metadata.csv": "file_name,label\na.jpg,cat\nb.jpg,cat|dog\nc.jpg,dog\nd.jpg,\n",  # huggingface.co/docs/datasets
    "metadata.jsonl": '{"file_name": "a.jpg", "labels": ["cat"]}\n{"file_name": "b.jpg", "labels": ["cat", "dog"]}\n'
    '{"file_name": "c.jpg", "labels": ["dog"]}\n{"file_name": "d.jpg", "labels": []}\n',
    "metadata.jsonl with objects": '{"file_name": "a.jpg", "objects": {"bbox": [[1, 1, 2]], "categories": ["cat"]}}\n'
    '{"file_name": "b.jpg", "objects": {"bbox": [[1, 1, 2, 2], [1, 1, 2, 2]], "categories": ["cat", "dog"]}}\n'
    '{"file_name": "c.jpg", "objects": {"bbox": [[1, 1, 2, 2]], "categories": ["dog"]}}\n'
    '{"file_name": "d.jpg", "objects": {"bbox": [], "categories": []}}\n',
    "records": json.dumps([{"image": file, "labels": names.split()} for file, names in SHOWN.items()]),
    "mapping": json.dumps({file: names.split() for file, names in SHOWN.items()}, indent=2),
    "FiftyOne's labels.json": json.dumps(  # docs.voxel51.com, FiftyOneImageClassificationDataset
        {"classes": ["cat", "dog"], "labels": {"a": 0, "b": [0, 1], "c": "dog", "d": None}}
    ),
    "FiftyOne's samples.json": json.dumps(  # docs.voxel51.com, FiftyOneDataset
        {
            "samples": [
                {
                    "filepath": f"data/{file}",
                    "tags": [],
                    "_media_type": "image",
                    "ground_truth": {
                        "_cls": "Classifications",
                        "classifications": [{"_cls": "Classification", "label": name} for name in names.split()],
                    },
                }
                for file, names in SHOWN.items()
            ]
        }
    ),
    "Label Studio's JSON": json.dumps(TASKS),
    "JSON-MIN": json.dumps(SHORT_TASKS),
    "COCO": json.dumps(COCO),
    "CVAT": CVAT,
    "VIA's JSON": json.dumps(VIA),
    "VIA's JSON of version 1": json.dumps(
        {
            key: entry | {"regions": {str(n): region for n, region in enumerate(entry["regions"])}}
            for key, entry in VIA.items()
        }
    ),
    "VIA's project": json.dumps(VIA_PROJECT),
    "VIA's CSV": VIA_CSV,
    "VIA's CSV of version 1": "#" + VIA_CSV,
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(listed: Callable[..., Listing], form: str) -> None:
    listing = listed(FORMS[form])
    assert shown(listing) == SHOWN
    assert listing.classes == ("cat", "dog")
    assert listing.origin.told.endswith("4 images, 2 classes; 1 without a label")


def test_a_line_that_stands_there_twice_counts_once(listed: Callable[..., Listing]) -> None:
    once = listed("image,labels\na,cat\nb,dog;cat\n")
    twice = listed("image,labels\na,cat\nb,dog;cat\na,cat\n")
    assert not twice.problems and shown(twice) == shown(once)


def test_what_was_understood_is_told(listed: Callable[..., Listing]) -> None:
    table = "Bild;Art\r\na.jpg;café\r\nb.jpg;Hündin\r\nc.jpg;café\r\n".encode("cp1252")
    assert listed(table).origin.told == "cp1252; semicolon; columns Bild, Art; one row an image; 3 images, 2 classes"
    assert "category" in (told := listed(FORMS["COCO"]).origin.told) or "categories" in told
    assert "not used by any annotation: animals; categories of one name are joined: dog" in told


def test_tags_of_label_studio_are_told(listed: Callable[..., Listing]) -> None:
    result = TASKS[0]["annotations"][0]["result"][0]
    both = [result, result | {"from_name": "quality", "value": {"choices": ["sharp"]}}]
    task = TASKS[0] | {"annotations": [{"result": both}]}
    assert "1 labeled task, names of the tags x, quality; 1 image, 2 classes" in listed(json.dumps([task])).origin.told


def test_what_via_tells(listed: Callable[..., Listing]) -> None:
    assert listed(VIA_CSV).origin.told == "VIA's CSV, attribute animal; 4 images, 2 classes; 1 without a label"
    assert "VIA's project, attribute class (1 other passed over: by); " in listed(json.dumps(VIA_PROJECT)).origin.told


def test_splits(listed: Callable[..., Listing]) -> None:
    for text in (
        "image,labels,split\na,cat,train\nb,cat,valid\nc,dog,train\nd,dog,valid\n",
        "fname,labels,is_valid\na,cat,False\nb,cat,True\nc,dog,False\nd,dog,True\n",  # docs.fast.ai, PASCAL_2007
        "a,cat,train\nb,cat,val\nc,dog,train\nd,dog,val\n",
    ):
        listing = listed(text)
        assert not listing.problems
        assert {item.image_id: item.split for item in listing.images} == dict(a="train", b="val", c="train", d="val")


def test_a_table_in_each_split_folder(listed: Callable[..., Listing], tmp_path: Path) -> None:
    files = ("train/a.jpg", "train/b.jpg", "valid/c.jpg", "test/d.jpg")
    (tmp_path / "images").mkdir()
    for part in ("train", "valid", "test"):
        (tmp_path / "images" / part).mkdir()
        rows = [f"{Path(f).name}, {int('a.' in f)}, {int('a.' not in f)}" for f in files if f.startswith(part)]
        (tmp_path / f"images/{part}/_classes.csv").write_text("\n".join(["filename, cat, dog", *rows]))
    listing = listed("", files, labels_file="_classes.csv")
    assert not listing.problems
    found = {item.image_id: (item.split, sorted(item.names or ())) for item in listing.images}
    assert found == {"train__a": ("train", ["cat"]), "train__b": ("train", ["dog"]), "valid__c": ("val", ["dog"])}
    assert listing.origin.other_splits == ("d.jpg (test)",)


def test_class_folders_in_split_folders(listed: Callable[..., Listing]) -> None:
    files = ("train/cat/a.jpg", "train/dog/b.jpg", "val/cat/c.jpg", "val/dog/d.jpg")
    listing = listed("", files, labels="folders", labels_file=None)
    assert not listing.problems and listing.classes == ("cat", "dog")
    assert {item.image_id[:5] for item in listing.images if item.split == "train"} == {"train"}


@pytest.mark.parametrize(
    "form",
    [
        "seg_{}/seg_{}/{}/{}.jpg",  # Kaggle's Intel Image Classification
        "{}_set/{}/{}.jpg",  # the folders training_set and test_set of many courses
        "{}2017/{}/{}.jpg",
    ],
)
def test_split_folders_of_other_names(listed: Callable[..., Listing], form: str) -> None:
    parts = [("train", "cat"), ("train", "dog"), ("test", "cat"), ("test", "dog")]
    files = tuple(form.format(*[part] * (form.count("{}") - 2), name, f"p{n}") for n, (part, name) in enumerate(parts))
    listing = listed("", files, labels="folders", labels_file=None, val_list="test")
    assert not listing.problems and listing.classes == ("cat", "dog")
    assert [item.split for item in listing.images] == ["train", "train", "val", "val"]


def test_folders_of_files_are_no_classes(listed: Callable[..., Listing]) -> None:
    """Supervisely's project: the pictures of each data set lie in `img`, beside `ann`."""
    (problem,) = listed("", ("img/a.jpg", "img/b.jpg"), labels="folders", labels_file=None).problems
    assert "img is no class but the kind of its files" in problem


def test_a_split_of_numbers_names_the_setting(listed: Callable[..., Listing]) -> None:
    text = "img_filename,y,split\na.jpg,cat,0\nb.jpg,dog,0\nc.jpg,cat,1\nd.jpg,dog,2\n"  # WILDS' metadata.csv
    problems = listed(text).problems
    assert "there are: 0, 1, 2; let data.train_list and data.score_list name one of them, in quotes" in problems[0]
    listing = listed(text, train_list="0", score_list="0", val_list="1")
    assert [(item.image_id, item.split) for item in listing.images] == [("a", "train"), ("b", "train"), ("c", "val")]


@pytest.mark.parametrize("words", [("train", "val"), ("training", "validation")])
def test_a_table_for_each_split(listed: Callable[..., Listing], tmp_path: Path, words: tuple[str, str]) -> None:
    for word, rows in zip(words, ("a.jpg,cat\nb.jpg,dog\n", "c.jpg,cat\nd.jpg,dog\n"), strict=True):
        (tmp_path / f"{word}.csv").write_text(f"filename,label\n{rows}")
    (tmp_path / "test.csv").write_text("filename\nd.jpg\n")  # Kaggle's, which has no labels
    listing = listed("", labels_file="*.csv")
    (tmp_path / "labels.csv").unlink()
    assert not listing.problems
    assert [(i.image_id, i.split, *(i.names or ())) for i in listing.images] == [
        *[("a", "train", "cat"), ("b", "train", "dog")],
        *[("c", "val", "cat"), ("d", "val", "dog")],
    ]
    assert listing.origin.told.startswith("*.csv in train, val: columns filename, label")
    (tmp_path / f"{words[1]}.csv").write_text("filename,label\nb.jpg,cat\nd.jpg,dog\n")
    assert "1 image(s) are in another table, too: b.jpg; keep one" in listed("", labels_file="*.csv").problems[0]


def test_coco_of_two_lists_with_equal_names(listed: Callable[..., Listing], tmp_path: Path) -> None:
    """COCO's layout: annotations/instances_train2017.json names 1.jpg, which lies in train2017."""
    files = ("train2017/1.jpg", "train2017/2.jpg", "val2017/1.jpg", "val2017/2.jpg")
    (tmp_path / "annotations").mkdir()
    for part, first in (("train", 1), ("val", 2)):
        content = {
            "images": [{"id": n, "file_name": f"{n}.jpg"} for n in (1, 2)],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
            "annotations": [{"id": n, "image_id": n, "category_id": first if n == 1 else 3 - first} for n in (1, 2)],
        }
        (tmp_path / f"annotations/instances_{part}2017.json").write_text(json.dumps(content))
    listing = listed("", files, labels_file="annotations/instances_*2017.json")
    assert {i.image_id: (i.split, *(i.names or ())) for i in listing.images} == {
        "train2017__1": ("train", "cat"),
        "train2017__2": ("train", "dog"),
        "val2017__1": ("val", "dog"),
        "val2017__2": ("val", "cat"),
    }


OTHER_TOOLS = {
    "labelme's file of one image": {"version": "5.5.0", "shapes": [], "imagePath": "a.jpg", "imageData": None},
    "Supervisely's file of one image": {"description": "", "tags": [], "size": {"height": 9}, "objects": []},
    "VoTT's file of one image": {"asset": {"name": "a.jpg"}, "regions": [], "version": "2.2.0"},
    "Labelbox's export": {"data_row": {"external_id": "a.jpg"}, "projects": {}},
}


@pytest.mark.parametrize("tool", OTHER_TOOLS)
def test_tools_that_are_not_read_are_named(listed: Callable[..., Listing], tool: str) -> None:
    (problem,) = listed(json.dumps(OTHER_TOOLS[tool])).problems
    assert f"{tool}, which is not read; " in problem and problem.endswith("or write a table image,labels")


def test_folders_that_are_no_classes(listed: Callable[..., Listing]) -> None:
    (problem, *_) = listed("", ("train/a.jpg", "val/b.jpg"), labels="folders", labels_file=None).problems
    assert "folders train, val are splits and no classes" in problem


def test_one_folder_too_many(listed: Callable[..., Listing]) -> None:
    files = ("animals/cat/a.jpg", "animals/dog/b.jpg")
    (problem,) = listed("", files, labels="folders", labels_file=None).problems
    assert "end in images/animals; if animals is the class" in problem


VOC = "<annotation><folder>x</folder><filename>q.jpg</filename><object><name>{}</name></object></annotation>"


@pytest.mark.parametrize(
    "place", ["images", "Annotations"]
)  # Roboflow writes them beside the images, labelImg where told
def test_xml_with_own_classes(listed: Callable[..., Listing], tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(exist_ok=True)
    for file, name in {"a": "lynx", "b": "yak", "c": "lynx"}.items():
        (tmp_path / place / f"{file}.xml").write_text(VOC.format(name))
    (tmp_path / place / "d.xml").write_text("<annotation/>")
    listing = listed("", labels="xml", labels_file=None)
    assert shown(listing) == {"a.jpg": "lynx", "b.jpg": "yak", "c.jpg": "lynx", "d.jpg": ""}
    (tmp_path / place / "e.xml").write_text("<annotation/>")
    assert "1 XML file(s) of no image" in listed("", labels="xml", labels_file=None).problems[0]


# Two readings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,labels\na,cat\nb,cat mouse\n", "'cat mouse' can be one name or the names 'cat' and 'mouse'"),
        (
            "image,tags\na,haze primary\nb,clear primary\nc,clear water\nd,haze water\n",
            "set data.label_separator to ' '",
        ),
        ('image,labels\na,"tench, Tinca tinca"\nb,cat\n', "'tench, Tinca tinca' can be one name or the names"),
        ("image,labels\na,cat;dog\nb,cat|dog\n", "labels hold ';' and '|'"),
        ("image,labels\na,cat/dog\nb,cat\nc,dog\n", "'cat/dog' can be one name or the names 'cat' and 'dog'"),
        ("image,cat,dog\na,0.9,0.2\nb,0.1,0.8\n", "set data.label_threshold"),
        (
            "image,label,confidence\na,cat,0.9\nb,dog,0.4\n",
            "the confidence goes from 0.4 to 0.9; set data.label_threshold",
        ),
        # CheXpert's -1 is "unsure"; numbers of objects; 2 for "several"
        (
            "image,cat,dog\na,1,-1\nb,0,1\n",
            "hold '-1' (1 cell), not 0 and 1 only; set data.label_threshold to the number",
        ),
        ("image,cat,dog\na,1,-1\nb,0,1\n", "-1 then means no: if it means unsure, take out those images"),
        ("image,cats,dogs\na,3,0\nb,1,2\n", "hold '2' (1 cell), '3' (1 cell), not 0 and 1 only; set data.label_thr"),
        ("image,cats,dogs\na,3,0\nb,1,2\n", "1, if these are numbers of objects"),
        ("image,cats\na,3\nb,0\n", "if they are classes, write label instead of cats into the header"),
        ("image,label\na,cat\nb,-1\n", 'set data.negatives: ["-1"]'),
        (json.dumps({"a.jpg1": VIA["a.jpg1"] | {"file_attributes": {"kind": "x", "hue": "y"}}}), "can each be a label"),
        (
            '{"project": {}, "config": {}, "attribute": {}, "file": {}, "metadata": {}, "view": {}}',
            "a project of VIA 3",
        ),
        ("image,class,tags\na,cat,fast\nb,dog,slow\n", "columns class, tags can each tell"),
        ("image,color,kind\na,red,cat\nb,blue,dog\n", "columns color, kind can each tell"),
        ("image,labels\na,cat\na,dog\n" + "".join(f"{n},cat\n" for n in "bcd"), "line 3: image a for the second time"),
        ("image,labels\na,cat\nb,none\n", 'set data.negatives: ["none"]'),
        ("image,labels\na,cat\nb,nan\n", 'set data.negatives: ["nan"]'),
        ("image,labels\na,cat\nb,dog,x\n", "line 3: 3 columns; write image,labels with ; between"),
        ("what,ever\nx,y\n", "no column names the images"),
        # Vertex AI's image_classification_multi_label.csv has no header, and a column for each label
        ("TRAIN,gs://x/a.jpg,cat,dog\nTEST,gs://x/b.jpg,cat,\n", "write a first line with a word for each column"),
        ("image,labels\na.jpg,\"[{'label': 'cat'}]\"\n", "which is no name and no JSON"),  # DataFrame.to_csv
        ("image,train,val,cat\na.jpg,1,0,1\nb.jpg,0,1,1\n", "columns train, val are splits and no classes; write one"),
        ("image,labels\n2.02001E+13,cat\n", "give this column the format text there"),  # Excel
        ("image,label\na,0\nb,1\n", "labels 0 and 1 can be two classes"),
        ("image,label\na,Vögel\n".encode("mac_roman"), "'Vögel' (mac_roman)"),
        (b"PK\x03\x04", "a workbook or an archive"),
        ("image,labels\na,chèvre\n".encode("cp1252"), "'chèvre' (cp1252) or 'chčvre' (cp1250)"),
        ("image,labels\na,кошка\n".encode("cp1251"), "set data.label_encoding"),
        (VOC.format("cat"), "set data.labels: xml"),
        (json.dumps(COCO | {"annotations": [{"image_id": 77, "category_id": 1}]}), "no image 77 in the file"),
        (
            json.dumps([TASKS[0] | {"annotations": [*TASKS[0]["annotations"], *TASKS[2]["annotations"]]}]),
            "labeled 2 times",
        ),
    ],
)
def test_two_readings_are_asked_about(listed: Callable[..., Listing], text: str | bytes, message: str) -> None:
    problems = listed(text).problems
    assert any(message in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("text", "decided", "found"),
    [
        ("image,labels\na,cat\nb,cat mouse\n", {"label_separator": " "}, {"a.jpg": "cat", "b.jpg": "cat mouse"}),
        ("image,labels\na,dog\nb,hot dog\n", {"label_separator": ";"}, {"a.jpg": "dog", "b.jpg": "hot dog"}),
        ("image,cat,dog\na,0.9,0.2\nb,0.6,0.8\n", {"label_threshold": 0.5}, {"a.jpg": "cat", "b.jpg": "cat dog"}),
        ("image,cats,dogs\na,3,0\nb,1,2\n", {"label_threshold": 1}, {"a.jpg": "cats", "b.jpg": "cats dogs"}),
        ("image,cat,dog\na,1,-1\nb,0,1\n", {"label_threshold": 1}, {"a.jpg": "cat", "b.jpg": "dog"}),
        ("image,label,score\na,cat,0.9\nb,dog,0.4\n", {"label_threshold": 0.5}, {"a.jpg": "cat", "b.jpg": ""}),
        ("image,labels\na,cat\nb,none\n", {"negatives": ["None"]}, {"a.jpg": "cat", "b.jpg": ""}),
        ("image,labels\na,cat\nb,none\n", {"negatives": []}, {"a.jpg": "cat", "b.jpg": "none"}),
        (
            "image,labels\na,кошка\nb,кот\n".encode("cp1251"),
            {"label_encoding": "cp1251"},
            {"a.jpg": "кошка", "b.jpg": "кот"},
        ),
    ],
)
def test_settings_decide(
    listed: Callable[..., Listing], text: str | bytes, decided: dict[str, Any], found: dict[str, str]
) -> None:
    assert shown(listed(text, **decided)) == found


@pytest.mark.parametrize("name", ["no_tumor", "Non-Fire", "not cat", "<NA>", "unknown", "0"])
def test_other_negatives_are_asked_about(listed: Callable[..., Listing], name: str) -> None:
    text = f"image,label\na.jpg,cat\nb.jpg,cow\nc.jpg,{name}\nd.jpg,cat\n"
    (problem,) = listed(text, label_separator=";").problems
    assert f'set data.negatives: ["{name}"]; if it is a class, set data.negatives: []' in problem
    assert shown(listed(text, label_separator=";", negatives=[name]))["c.jpg"] == ""
    assert shown(listed(text, label_separator=";", negatives=[]))["c.jpg"] == name


def test_negatives_that_label_nothing(listed: Callable[..., Listing]) -> None:
    (problem,) = listed("image,labels\na,cat\n", negatives=["healthy"]).problems
    assert problem == "data.negatives: healthy labels no image; correct it, or take it out"


# Names of files


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("farm/a.JPG", "farm/a.JPG"),
        ("farm\\a.JPG", "farm/a.JPG"),
        ("./farm/a.JPG", "farm/a.JPG"),
        ("../images/farm/a.JPG", "farm/a.JPG"),
        ("images/farm/a.JPG", "farm/a.JPG"),
        ("a.JPG", "farm/a.JPG"),
        ("/other/place/farm/a.JPG", "farm/a.JPG"),
        ("C:\\Users\\me\\farm\\a.jpg", "farm/a.JPG"),
        ("https://host/bucket/farm/a.JPG?alt=media&token=1", "farm/a.JPG"),
        ("https://host/o/farm%2Fa.JPG", "farm/a.JPG"),
        ("s3://bucket/farm/a.JPG", "farm/a.JPG"),
        ("FARM/A.jpg", "farm/a.JPG"),
        ("a.png", "farm/a.JPG"),
        ("/data/upload/7/0123abcd-a.JPG", "farm/a.JPG"),
        ("/data/local-files/?d=farm%2Fa.JPG", "farm/a.JPG"),
        ("/data/upload/7/0123abcd-my_cat.jpg", "my cat.jpg"),
        ("0123abcd-a_cow_2.jpg", "a cow (2).jpg"),
        ("a_JPG.rf.0123456789abcdef0123456789abcdef.jpg", "farm/a.JPG"),  # Roboflow
        ("12", "000012.jpg"),  # as pandas and Excel write 000012
        ("12.0", "000012.jpg"),
        ("12.jpg", "000012.jpg"),
        ("0", "x/00.png"),
        ("7", None),
        ("my%20cat.jpg", "my cat.jpg"),
        ("100%.jpg", "100%.jpg"),
        ("same.jpg", None),
        ("x/same.jpg", "x/same.jpg"),
        ("z/same.jpg", None),
        ("gone.jpg", None),
        ("", None),
        ("https://[", None),
    ],
)
def test_names_of_files(name: str, file: str | None) -> None:
    there = ["farm/a.JPG", "my cat.jpg", "100%.jpg", "x/same.jpg", "y/same.jpg", "a cow (2).jpg"]
    files = FileNames([*there, "000012.jpg", "x/00.png"], "/set/images")
    assert files.find(name).file == file


def test_names_with_two_candidates(listed: Callable[..., Listing]) -> None:
    files = ("x/a.jpg", "y/a.jpg", "b.jpg")
    problems = listed("image,labels\na.jpg,cat\nb.jpg,dog\nz/b.png,dog\n", files).problems
    assert "name can mean the files in brackets" in problems[0] and "a.jpg (x/a.jpg, y/a.jpg)" in problems[0]
    assert "image b.jpg twice, as b.jpg and z/b.png; keep one line" in problems[1]


def test_each_of_many_names_is_found() -> None:
    files = [f"{n % 97}/{n}/image.jpg" for n in range(20_000)]
    names = FileNames(files, "/set/images")
    assert all(names.find(f"elsewhere\\{file}").file == file for file in files)
    assert names.find("image.jpg").file is None


# Damage


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        place, end = sorted(int(n) for n in rng.integers(0, len(data) + 1, 2))
        kind = int(rng.integers(6))
        if kind == 0 and data:
            data[min(place, len(data) - 1)] = int(rng.integers(256))
        elif kind == 1:
            del data[place : min(end, place + 30)]
        elif kind == 2:
            data[place:place] = data[place : min(end, place + 60)]
        elif kind == 3:
            tokens = (
                b'"',
                b",",
                b";",
                b"\n",
                b"\0",
                b"[",
                b"]",
                b"{",
                b"}",
                b"\xff\xfe",
                b"1e999",
                b"null",
                b"<",
                b"\r",
            )
            data[place:place] = tokens[int(rng.integers(len(tokens)))]
        elif kind == 4:
            data[place:place] = b"[" * int(rng.integers(1, 3000))
        else:
            del data[place:]
    return bytes(data)


def test_damaged_files_of_all_forms(tmp_path: Path) -> None:
    """Rows or a problem with words in it, and never anything else."""
    rng, path, names = np.random.default_rng(0), tmp_path / "labels", FileNames(FILES, "images")
    forms = [form.encode() if isinstance(form, str) else form for form in FORMS.values()]
    read = 0
    for n in range(2400):
        path.write_bytes(mutated(forms[n % len(forms)], rng))
        problems = list[str]()
        table = read_table(path, Reading(), lambda text: names.find(text).file is not None, problems)
        assert table is not None or problems
        assert all(len(problem) > 30 for problem in problems)
        read += table is not None and not problems
    assert 240 < read < 2280


def test_damaged_files_of_lists_and_of_yolo(data_settings: Callable[..., DataConfig], tmp_path: Path) -> None:
    """A listing with or without problems, and never anything else."""
    texts = {
        "train.txt": b"/images/a.jpg /masks/a.png\nimages/b.jpg\n",
        "val.txt": b"c\nimages/d.jpg images/d.png\n",
        "data.yaml": b"path: x\ntrain: ../train.txt\nval: [val.txt]\nnc: 2\nnames: {0: cat, 1: 'dog'}\n",
        "labels/a.txt": b"0 0.5 0.5 0.25 0.25\n1 0.1 0.1 0.9 0.1 0.9 0.9\n",
    }
    for file in FILES:
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / file).touch()
    (tmp_path / "labels").mkdir()
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text)
    values = {"source": "folder", "root": str(tmp_path), "images": "images", "masks": None, "labels": "yolo"}
    lists = {"train_list": "train.txt", "score_list": "train.txt", "val_list": "val.txt"}
    plain = data_settings(**values, labels_file="data.yaml")
    listed = data_settings(**values | lists, labels_file="data.yaml")
    rng, read = np.random.default_rng(1), 0
    for n in range(400):
        name = list(texts)[n % len(texts)]
        (tmp_path / name).write_bytes(mutated(texts[name], rng))
        listing = list_folder(listed if name.endswith("n.txt") or name == "val.txt" else plain, seed=0)
        assert all(len(problem) > 20 for problem in listing.problems)
        read += not listing.problems
        (tmp_path / name).write_bytes(texts[name])
    assert 20 < read < 390


@pytest.mark.parametrize("header", ["id,Foto,label", "image_id,url,label", "id,name,label"])
def test_row_numbers_are_no_pictures(listed: Callable[..., Listing], header: str) -> None:
    """A running number also names 1.jpg to 4.jpg; the names with an ending are the pictures."""
    files = tuple(f"{n}.jpg" for n in range(1, 5))
    rows = [f"{5 - n},{n}.jpg,{'cat' if n < 3 else 'dog'}" for n in range(1, 5)]
    assert shown(listed("\n".join([header, *rows]), files)) == dict(
        zip(files, ("cat", "cat", "dog", "dog"), strict=True)
    )


def test_folders_that_are_splits(listed: Callable[..., Listing]) -> None:
    files = ("train/a.jpg", "train/b.jpg", "valid/c.jpg", "valid/d.jpg")
    listing = listed("image,labels\ntrain/a,cat\ntrain/b,dog\nvalid/c,cat\nvalid/d,dog\n", files)
    assert {item.image_id: item.split for item in listing.images} == {
        "train__a": "train",
        "train__b": "train",
        "valid__c": "val",
        "valid__d": "val",
    }
    assert "folders are the splits" in listing.origin.told


def short_tasks(**more: list[Any]) -> str:
    """JSON-MIN of four pictures; `more`: the values of further keys."""
    rows = enumerate(SHOWN)
    return json.dumps(
        [{"id": n, "image": f"x/{file}", "lead_time": 2.5} | {key: v[n] for key, v in more.items()} for n, file in rows]
    )


def test_other_text_of_json_min_is_no_label(listed: Callable[..., Listing]) -> None:
    animals: list[Any] = ["cat", {"choices": ["cat", "dog"]}, "dog", []]
    camera = ["north", "south", "north", "south"]
    listing = listed(short_tasks(animal=animals, camera=camera))
    assert shown(listing) == SHOWN
    assert "labels from animal (passed over: camera)" in listing.origin.told
    assert listed(short_tasks(choice=["cat", "cat", "dog", "dog"], camera=camera)).classes == ("cat", "dog")
    (problem,) = listed(short_tasks(animal=["cat", "cat", "dog", "dog"], camera=camera)).problems
    assert "the keys animal, camera can each hold the labels" in problem


def test_splits_in_other_letters(listed: Callable[..., Listing]) -> None:
    listing = listed("image,labels,split\na,cat,train\nb,dog,Train\nc,cat,val\nd,dog,VAL\n")
    assert [item.split for item in listing.images] == ["train", "train", "val", "val"]


@pytest.mark.parametrize(("yes", "no"), [("WAHR", "FALSCH"), ("ja", "nein"), ("Oui", "Non"), ("VERDADERO", "FALSO")])
def test_yes_and_no_of_other_languages(listed: Callable[..., Listing], yes: str, no: str) -> None:
    assert shown(listed(f"image;cat;dog\na;{yes};{no}\nb;{yes};{yes}\nc;{no};{yes}\nd;{no};{no}\n")) == SHOWN


def test_is_valid_holds_yes_or_no(listed: Callable[..., Listing]) -> None:
    (problem,) = listed("image,labels,is_valid\na,cat,0\nb,dog,valid\nc,cat,1\nd,dog,0\n").problems
    assert "the column of the split holds 'valid', neither yes nor no" in problem


def test_full_width_signs_between_names_are_asked(listed: Callable[..., Listing]) -> None:
    for sign in "、，；":
        (problem, *_) = listed(f"image,labels\na,猫\nb,狗\nc,猫{sign}狗\nd,猫\n").problems
        assert f"猫{sign}狗" in problem and "data.label_separator" in problem


@pytest.mark.parametrize("order", [("images", "annotations", "categories"), ("annotations", "images", "categories")])
def test_coco_of_other_keys(listed: Callable[..., Listing], order: tuple[str, ...]) -> None:
    """LVIS names an image by its address only; files that were merged have an image twice."""
    coco = json.loads(json.dumps(COCO))
    for image in coco["images"]:
        image["coco_url"] = f"http://images.cocodataset.org/train2017/{image.pop('file_name')}"
    assert shown(listed(json.dumps({key: coco[key] for key in order}))) == SHOWN
    again = coco["images"][0] | {"id": 99}
    merged = coco | {
        "images": [*coco["images"], again],
        "annotations": [*coco["annotations"], {"id": 9, "image_id": 99, "category_id": 3}],
    }
    assert shown(listed(json.dumps(merged))) == SHOWN | {"a.jpg": "cat dog"}


def test_images_of_another_form_are_no_coco(listed: Callable[..., Listing]) -> None:
    entries = [{"file": file, "labels": names.split()} for file, names in SHOWN.items()]
    assert shown(listed(json.dumps({"images": entries}))) == SHOWN
    hasty = {"label_classes": [], "images": [{"image_name": "a.jpg", "labels": []}]}
    assert "Hasty's export, which is not read; export it as COCO" in listed(json.dumps(hasty)).problems[0]


@pytest.mark.parametrize(("encoding", "name"), [("gbk", "猫"), ("ISO-8859-1", "Vögel")])
def test_the_code_page_of_an_xml_file(listed: Callable[..., Listing], encoding: str, name: str) -> None:
    text = CVAT.replace('encoding="utf-8"', f'encoding="{encoding}"').replace("cat", name)
    assert listed(text.encode(encoding)).classes == tuple(sorted(("dog", name)))
    undeclared = CVAT.replace("cat", name).encode(encoding)
    assert listed(undeclared, label_encoding=encoding).classes == tuple(sorted(("dog", name)))


@pytest.mark.parametrize("labels", ["csv", "coco"])
def test_scores_of_coco(listed: Callable[..., Listing], labels: str) -> None:
    scores = (0.9, 0.8, 0.3, 0.2)
    scored = [one | {"score": score} for one, score in zip(COCO["annotations"], scores, strict=True)]
    text = json.dumps(COCO | {"annotations": scored})
    every, sure = listed(text, labels=labels), listed(text, labels=labels, label_threshold=0.5)
    assert shown(every) == SHOWN and "4 annotations with a score, all of them labels" in every.origin.told
    assert shown(sure) == {"a.jpg": "cat", "b.jpg": "cat", "c.jpg": "", "d.jpg": ""}
    assert "labels from 0.5 on" in sure.origin.told


@pytest.mark.parametrize(("kind", "cat"), [("one class", ""), ("several classes", "cat "), ("boxes", "cat ")])
def test_confidences_of_ground_truth(listed: Callable[..., Listing], kind: str, cat: str) -> None:
    text = manifest(a=CONFIDENCES[kind], b=CONFIDENCES["boxes without confidence"])
    assert shown(listed(text)) == {"a.jpg": f"{cat}dog", "b.jpg": "dog"}
    sure = listed(text, label_threshold=0.5)
    assert shown(sure) == {"a.jpg": "dog", "b.jpg": "dog"} and "confidences from 0.5 on" in sure.origin.told
    assert shown(listed(text, label_threshold=0.95)) == {"a.jpg": "", "b.jpg": "dog"}
