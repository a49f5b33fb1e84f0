"""The referee for detection metrics: pycocotools' COCOeval on our dictionaries.

A test module that imports it is skipped where pycocotools cannot be imported.
"""

import contextlib
import io

import numpy as np
import pytest
import torch

coco = pytest.importorskip("pycocotools.coco", exc_type=ImportError)
cocoeval = pytest.importorskip("pycocotools.cocoeval", exc_type=ImportError)
rle = pytest.importorskip("pycocotools.mask", exc_type=ImportError)

__all__ = ["NAMES", "coco", "cocoeval", "judge", "referee", "rle"]

NAMES = "AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl".split()


def regions(entry, iou_type):
    """Boxes as COCO writes them, or masks in run lengths."""
    if iou_type == "bbox":
        boxes = entry["boxes"].double()
        sizes = boxes[:, 2:] - boxes[:, :2]
        return [{"bbox": box} for box in torch.cat([boxes[:, :2], sizes], 1).tolist()]
    masks = (entry["masks"] > 0.5).to(torch.uint8).flatten(0, -3).numpy()
    codes = [rle.encode(np.asfortranarray(mask)) for mask in masks]
    return [{"segmentation": code} for code in codes]


def referee(predictions, targets, categories, iou_type, max_detections=(1, 10, 100)):
    """COCOeval on the same dictionaries; images count from 1, in their order."""
    truth, found = [], []
    for image, (prediction, target) in enumerate(
        zip(predictions, targets, strict=True), 1
    ):
        label, crowd = target["labels"].tolist(), target.get("iscrowd")
        for i, region in enumerate(regions(target, iou_type)):
            if "area" in target:
                area = float(target["area"][i])
            elif iou_type == "bbox":
                area = region["bbox"][2] * region["bbox"][3]
            else:
                area = float(rle.area(region["segmentation"]))
            truth.append(
                dict(
                    region,
                    id=len(truth) + 1,
                    image_id=image,
                    category_id=label[i],
                    iscrowd=0 if crowd is None else int(crowd[i]),
                    area=area,
                )
            )
        label, score = prediction["labels"].tolist(), prediction["scores"].tolist()
        for i, region in enumerate(regions(prediction, iou_type)):
            found.append(
                dict(region, image_id=image, category_id=label[i], score=score[i])
            )
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = coco.COCO()
        dataset.dataset = {
            "info": {},
            "images": [
                {"id": i + 1, "height": 0, "width": 0} for i in range(len(targets))
            ],
            "categories": [{"id": c, "name": str(c)} for c in categories],
            "annotations": truth,
        }
        dataset.createIndex()
        if found:
            results = dataset.loadRes(found)
        else:  # loadRes needs one
            results = coco.COCO()
            results.dataset = {**dataset.dataset, "annotations": []}
            results.createIndex()
        evaluation = cocoeval.COCOeval(dataset, results, iou_type)
        evaluation.params.maxDets = list(max_detections)
        return judge(evaluation)


def judge(evaluation):
    """Run COCOeval to its end."""
    evaluation.evaluate()
    evaluation.accumulate()
    if len(evaluation.params.maxDets) == 3:  # summarize knows no other number
        evaluation.summarize()
    return evaluation
