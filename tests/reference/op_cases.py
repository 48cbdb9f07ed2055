"""Calls of keras.ops that real Keras and nbkeras must answer alike; make_ops.py stores Keras's results in ops.npz.

Each is a function of a module with Keras's names and of `a`, which makes arrays from a fixed seed: a(shape) of normal numbers.
"""

IDS = [0, 2, 2, 1, 0]
AFFINE = [0.9, 0.2, 0.5, -0.1, 1.1, -0.3, 0.0, 0.0]
START = [[0.0, 0.0], [5.0, 0.0], [0.0, 4.0], [5.0, 4.0]]
END = [[0.5, 0.2], [5.5, 0.1], [-0.3, 4.2], [4.6, 3.5]]

CASES = {
    "resize_bilinear": lambda ops, a: ops.image.resize(a((2, 4, 6, 3)), (7, 5)),
    "resize_nearest": lambda ops, a: ops.image.resize(a((4, 6, 3)), (7, 5), "nearest"),
    "resize_bicubic": lambda ops, a: ops.image.resize(a((2, 4, 6, 3)), (9, 3), "bicubic", antialias=True),
    "resize_lanczos": lambda ops, a: ops.image.resize(a((2, 8, 6, 1)), (5, 9), "lanczos3", antialias=True),
    "resize_crop": lambda ops, a: ops.image.resize(a((2, 4, 9, 1)), (6, 5), crop_to_aspect_ratio=True),
    "resize_pad": lambda ops, a: ops.image.resize(a((2, 4, 9, 1)), (6, 5), pad_to_aspect_ratio=True, fill_value=2.0),
    "resize_first": lambda ops, a: ops.image.resize(a((2, 1, 4, 6)), (3, 9), data_format="channels_first"),
    "resize_bytes": lambda ops, a: ops.image.resize(abs(a((4, 6, 1)) * 100).astype("uint8"), (3, 9)),
    "grayscale": lambda ops, a: ops.image.rgb_to_grayscale(a((2, 4, 6, 3))),
    "to_hsv": lambda ops, a: ops.image.rgb_to_hsv(abs(a((2, 4, 6, 3)))),
    "from_hsv": lambda ops, a: ops.image.hsv_to_rgb(abs(a((2, 3, 4, 6))), data_format="channels_first"),
    "pad_images": lambda ops, a: ops.image.pad_images(a((2, 4, 6, 3)), 1, 2, target_height=7, target_width=9),
    "crop_images": lambda ops, a: ops.image.crop_images(
        a((4, 6, 3)), 1, None, None, 2, target_height=2, target_width=3
    ),
    "patches": lambda ops, a: ops.image.extract_patches(a((2, 5, 6, 3)), (2, 3), 2),
    "patches_same": lambda ops, a: ops.image.extract_patches(a((5, 6, 3)), 2, 1, 2, "same"),
    "patches_3d": lambda ops, a: ops.image.extract_patches_3d(a((1, 4, 4, 6, 2)), (2, 2, 3)),
    "blur": lambda ops, a: ops.image.gaussian_blur(a((2, 6, 7, 3)), (5, 3), (0.7, 1.5), data_format="channels_last"),
    "sobel": lambda ops, a: ops.image.sobel_edges(a((2, 6, 7, 3))),
    "ssim": lambda ops, a: ops.image.ssim(a((2, 12, 13, 3)), a((2, 12, 13, 3)), filter_size=5),
    "scale": lambda ops, a: ops.image.scale_and_translate(
        a((4, 6, 2)), (5, 7, 2), ops.array([1.3, 0.7]), ops.array([-0.6, 0.9]), (0, 1), "linear"
    ),
    "affine": lambda ops, a: ops.image.affine_transform(
        a((2, 5, 6, 2)), ops.array([AFFINE, AFFINE[::-1][2:] + [0.0, 0.0]])
    ),
    "affine_nearest": lambda ops, a: ops.image.affine_transform(a((5, 6, 2)), ops.array(AFFINE), "nearest", "reflect"),
    "perspective": lambda ops, a: ops.image.perspective_transform(a((5, 6, 2)), ops.array(START), ops.array(END)),
    **{
        f"map_{mode}_{order}": lambda ops, a, mode=mode, order=order: ops.image.map_coordinates(
            a((4, 5)), a((2, 3, 7)) * 4, order, mode, 0.5
        )
        for mode in ("constant", "nearest", "wrap", "mirror", "reflect")
        for order in (0, 1)
    },
    "stft": lambda ops, a: ops.stft(a((2, 40)), 6, 4, 9),
    "istft": lambda ops, a: ops.istft((a((2, 9, 5)), a((2, 9, 5))), 6, 3, 8, window="hamming"),
    "rfft": lambda ops, a: ops.rfft(a((2, 7)), 10),
    "irfft": lambda ops, a: ops.irfft((a((2, 6)), a((2, 6))), 9),
    "unfold": lambda ops, a: ops.unfold(a((2, 3, 5, 6)), (2, 3), padding=1, stride=(2, 1)),
    "fold": lambda ops, a: ops.fold(a((2, 12, 12)), (6, 8), (2, 2), stride=2),
    "sparse_plus": lambda ops, a: ops.sparse_plus(a((3, 6)) * 2),
    "sparse_sigmoid": lambda ops, a: ops.sparse_sigmoid(a((3, 6)) * 2),
    "normalize": lambda ops, a: ops.normalize(a((3, 6)), axis=0, order=3),
    "moments": lambda ops, a: ops.moments(a((3, 6, 2)), (0, 2)),
    "quantile": lambda ops, a: ops.quantile(a((3, 6, 2)), [0.1, 0.5, 0.77], (0, 2), "nearest"),
    "histogram": lambda ops, a: ops.histogram(a((30,)), 4),
    "correlate": lambda ops, a: ops.correlate(a((5,)), a((8,)), "same"),
    "cdist": lambda ops, a: ops.cdist(a((2, 3, 4)), a((2, 5, 4))),
    "psnr": lambda ops, a: ops.psnr(a((3, 6)), a((3, 6)), 2.0),
    "segment_max": lambda ops, a: ops.segment_max(a((5, 2)), ops.array(IDS), 4),
    "segment_prod": lambda ops, a: ops.segment_prod(a((5, 2)), ops.array(IDS), 4),
    "scatter_update": lambda ops, a: ops.scatter_update(a((4, 3)), [[0, 1], [3, 2], [0, 1]], a((3,)), "max"),
    "slice_update": lambda ops, a: ops.slice_update(a((4, 3)), (3, 1), a((2, 2))),
    "logdet": lambda ops, a: ops.logdet(a((3, 3)) * 0.1 + 2 * ops.eye(3)),
    "lstsq": lambda ops, a: ops.lstsq(a((5, 3)), a((5, 2))),
    "pinv": lambda ops, a: ops.pinv(a((2, 3, 5))),
    "lu_factor": lambda ops, a: ops.lu_factor(a((3, 3))),
    "cholesky_inverse": lambda ops, a: ops.cholesky_inverse(a((3, 3)) * 0.1 + ops.eye(3), upper=False),
    "norm_nuc": lambda ops, a: ops.norm(a((2, 3, 4)), "nuc", (0, 2)),
    "unique": lambda ops, a: ops.unique(
        ops.array([3, 1, 3, 7, 1], "int32"), return_inverse=True, return_counts=True, size=4
    ),
    "nonzero": lambda ops, a: ops.nonzero(ops.array([[0, 1, 0], [2, 0, 3]])),
    "bincount": lambda ops, a: ops.bincount(ops.array([[0, 1, 1], [2, 0, 3]]), minlength=6),
    "multi_hot": lambda ops, a: ops.multi_hot(ops.array([[0, 1], [2, 2]]), 4),
    "rearrange": lambda ops, a: ops.rearrange(a((2, 4, 6, 3)), "b (h1 h) (w1 w) c -> (b h1 w1) h w c", h1=2, w1=3),
    "depth_to_space": lambda ops, a: ops.depth_to_space(a((2, 8, 3, 2)), 2, data_format="channels_first"),
    "vander": lambda ops, a: ops.vander(a((4,)), 3),
    "saturate_cast": lambda ops, a: ops.saturate_cast(a((9,)) * 300, "int8"),
}
