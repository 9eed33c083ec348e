"""Encoded images of any readable format -> RGB tensors.

Exports:
    DECODING: Version of the rules by which pixels are made from a file.
    decode: Image file to RGB tensor.
    pixels_of: Number of pixels of an image file, from its header.
    ImageRefused: Error of an image that gets no prediction.
    ImageLimits: Limits above which an image is refused.
    SUFFIXES: Endings of the names of image files.
"""

from handler.images.decoding import DECODING, decode, pixels_of
from handler.images.refusal import ImageRefused
from handler.values.limits import SUFFIXES, ImageLimits

__all__ = ["DECODING", "SUFFIXES", "ImageLimits", "ImageRefused", "decode", "pixels_of"]
