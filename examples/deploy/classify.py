"""Classifies images of digits with numpy and the library: `python classify.py < images.bin`, in the folder of digits.py."""

import sys

import digits
import numpy as np

images = np.frombuffer(sys.stdin.buffer.read(), "<f4").reshape(-1, 8, 8)
for row in digits.predict(images):
    print(f"{row.argmax()}:", *(f"{probability:.9g}" for probability in row))
