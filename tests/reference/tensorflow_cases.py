"""Expressions with TensorFlow's names. make_tensorflow.py computes them with TensorFlow, tests with nbkeras."""

import numpy as np


def _waves(*shape):
    return np.sin(np.arange(np.prod(shape), dtype="float32") * np.float32(1.7)).reshape(shape)


def _raises(function, *args, **kwargs):
    """Whether a call raises an error: checks of values are compared by this."""
    try:
        function(*args, **kwargs)
    except (ValueError, TypeError, np.linalg.LinAlgError):
        return True
    except Exception as error:
        return type(error).__name__ in ("InvalidArgumentError", "OutOfRangeError")  # TensorFlow's are no ValueErrors
    return False


DATA = {
    "np": np,
    "raises": _raises,
    "x": _waves(3, 4),
    "y": _waves(3, 4)[::-1] * 2,
    "v": _waves(6),
    "b": _waves(2, 3, 4),
    "p": np.abs(_waves(3, 4)) + np.float32(0.1),
    "i": np.array([[3, -1, 2], [5, 0, -4]], "int32"),
    "ids": np.array([0, 0, 2], "int32"),
    "labels": np.array([1, 0, 3], "int32"),
    "images": (_waves(2, 8, 6, 3) + 1) / 2,
    "bytes": (np.arange(144) * 37 % 256).astype("uint8").reshape(8, 6, 3),
    "seq": _waves(2, 7, 3),
    "volume": _waves(1, 4, 5, 6, 2),
    "k1": _waves(3, 3, 2),
    "k2": _waves(3, 3, 3, 4),
    "d2": _waves(3, 3, 3, 2),
    "k3": _waves(2, 2, 2, 2, 3),
    "t2": _waves(3, 3, 4, 3),
    "words": np.array(["The Cat ", "  a\u00c9 b", "", "x-y z"]),
    "square": _waves(3, 3) + 3 * np.eye(3, dtype="float32"),
}

# What TensorFlow and nbkeras compute alike, one expression for each name.
EXPRESSIONS = r"""
tf.abs(x)
tf.math.acosh(p + 1)
tf.add(x, y)
tf.add_n([x, y, x])
tf.argmax(x)
tf.argmax(x, axis=1, output_type=tf.int32)
tf.argmin(input=x, axis=-1)
tf.argsort(v, direction="DESCENDING")
tf.math.atan2(y, x)
tf.boolean_mask(x, x[:, 0] > 0)
tf.boolean_mask(x, x > 0)
tf.boolean_mask(b, [True, False, True], axis=1)
tf.broadcast_to(v, [2, 6])
tf.cast(x * 10, tf.int32)
tf.math.bincount([1, 1, 4])
tf.math.ceil(x * 3)
tf.clip_by_global_norm([x, y], 1.0)[0]
tf.clip_by_norm(x, 0.5)
tf.clip_by_norm(x, 0.5, axes=[1])
tf.clip_by_value(x, clip_value_min=-0.5, clip_value_max=0.25)
tf.concat([x, y], axis=1)
tf.concat(values=[x, y], axis=0)
tf.math.confusion_matrix([1, 2, 1], [1, 0, 2])
tf.constant([1.0, 2.0, 3.0, 4.0], shape=(2, 2))
tf.constant(2, dtype=tf.float32, shape=[2, 3])
tf.math.count_nonzero(i, axis=0)
tf.cumsum(x, axis=1, exclusive=True, reverse=True)
tf.cumsum(x)
tf.math.cumprod(x, axis=1, exclusive=True)
tf.divide(x, y)
tf.math.divide_no_nan(x, y * 0)
tf.einsum("ij,kj->ik", x, y)
tf.expand_dims(x, axis=1)
tf.math.erf(x)
tf.math.expm1(x)
tf.eye(2, 3, batch_shape=[2])
tf.fill([2, 2], 7.0)
tf.math.floordiv(i, 2)
tf.math.floormod(i, 3)
tf.gather(x, [2, 0])
tf.gather(x, [2, 0], axis=1)
tf.gather(b, [[1, 0], [2, 2]], batch_dims=1)
tf.gather(b, [[1, 0], [2, 2]], axis=1, batch_dims=1)
tf.gather_nd(x, [[0, 1], [2, 3]])
tf.linalg.global_norm([x, y])
tf.math.in_top_k([1, 0, 3], x, 2)
tf.linspace(0.0, 1.0, 5)
tf.math.is_nan(np.where(x > 0, np.nan, x))
tf.math.l2_normalize(x)
tf.math.l2_normalize(x, axis=1)
tf.less(x, y)
tf.math.log_sigmoid(x)
tf.nn.conv2d(images, k2, strides=1, padding="SAME", data_format="NHWC")
tf.logical_and(x > 0, y > 0)
tf.matmul(x, y, transpose_b=True)
tf.matmul(x, y, transpose_a=True)
tf.maximum(x, y)
tf.math.multiply_no_nan(np.where(x > 0, np.inf, x), x * 0)
tf.norm(x)
tf.norm(x, axis=1, keepdims=True)
tf.norm(x, ord=1, axis=0)
tf.one_hot([0, 2], depth=3)
tf.one_hot([0, 2], 3, on_value=5.0, off_value=-1.0, axis=0)
tf.ones([2, 3], tf.int32)
tf.ones_like(i)
tf.pad(x, [[1, 0], [0, 2]])
tf.pad(x, [[1, 1], [2, 2]], "REFLECT")
tf.pad(x, tf.constant([[1, 1], [2, 2]]), mode="SYMMETRIC")
tf.pad(x, [[1, 1], [0, 0]], constant_values=3)
tf.math.polyval([1.0, 2.0, 3.0], x)
tf.pow(p, 1.5)
tf.range(5)
tf.range(2, 10, delta=3)
tf.range(0.0, 1.0, 0.25)
tf.rank(b)
tf.math.reciprocal_no_nan(x * 0)
tf.reduce_all(x > -2)
tf.reduce_any(x > 0, axis=1)
tf.reduce_logsumexp(x, axis=1)
tf.reduce_max(x, axis=[0, 1])
tf.reduce_mean(x, axis=1, keepdims=True)
tf.reduce_mean(input_tensor=x)
tf.reduce_mean(i, axis=1)
tf.reduce_prod(i, axis=0)
tf.math.reduce_std(x, axis=0)
tf.reduce_sum(i, axis=1)
tf.reduce_sum(x, axis=(0, 1))
tf.math.reduce_variance(x)
tf.math.reduce_euclidean_norm(x, 1)
tf.repeat(x, 2, axis=0)
tf.reshape(x, [-1, 2])
tf.reshape(x, (tf.shape(x)[1], -1))
tf.reverse(x, axis=[0])
tf.roll(v, shift=2, axis=0)
tf.round(x * 10)
tf.math.rsqrt(p)
tf.scalar_mul(2.0, x)
tf.scatter_nd([[0], [2], [0]], [1.0, 2.0, 3.0], [4])
tf.searchsorted([1.0, 3.0, 5.0], [0.0, 3.0, 6.0], side="right")
tf.math.segment_sum(x, ids)
tf.math.segment_max(x, ids)
tf.sequence_mask([1, 3, 0])
tf.sequence_mask([1, 3], maxlen=4, dtype=tf.float32)
tf.shape(b)
tf.shape(b)[1:] * 2
tf.size(b)
tf.slice(b, [0, 1, 0], [1, 2, -1])
tf.sort(x, direction="DESCENDING")
tf.split(x, 2, axis=1)[1]
tf.split(x, num_or_size_splits=[1, -1], axis=1)[1]
tf.math.squared_difference(x, y)
tf.squeeze(x[None], axis=0)
tf.stack([x, y], axis=1)
tf.switch_case(tf.constant(5), [lambda: x, lambda: y])
tf.tensor_scatter_nd_add(x, [[0, 1], [0, 1]], [5.0, 6.0])
tf.tensor_scatter_nd_update(x, [[1]], [[9.0, 9.0, 9.0, 9.0]])
tf.tensordot(x, y, axes=[[1], [1]])
tf.tile(x, [2, 1])
tf.transpose(b, perm=[1, 0, 2])
tf.transpose(x)
tf.unique([5, 3, 5, 1, 3])[0]
tf.unique([5, 3, 5, 1, 3])[1]
tf.unstack(x, axis=1)[2]
tf.math.unsorted_segment_mean(x, ids, 4)
tf.math.unsorted_segment_sum(x, [2, 0, 2], num_segments=4)
tf.where(x > 0)
tf.where(x > 0, x, y)
tf.math.xdivy(x * 0, y * 0)
tf.math.xlogy(x * 0, y * 0)
tf.math.zero_fraction(i)
tf.zeros((2, 2))
tf.math.top_k(x, k=2)[0]
tf.math.top_k(x, k=2)[1]
tf.map_fn(lambda row: row * 2, x)
tf.cond(tf.constant(True), lambda: x, lambda: y)
tf.while_loop(lambda n, s: n < 5, lambda n, s: (n + 1, s + 2.0), (tf.constant(0), tf.constant(1.0)))[1]
tf.linalg.band_part(square, 0, -1)
tf.linalg.cholesky(square @ square.T)
tf.linalg.det(square)
tf.linalg.diag(v)
tf.linalg.diag_part(square)
tf.linalg.eigvalsh(square + square.T)
tf.linalg.inv(square)
tf.linalg.matvec(square, v[:3])
tf.linalg.pinv(x)
tf.abs(tf.linalg.qr(square)[1])
tf.linalg.set_diag(b, v.reshape(2, 3))
tf.linalg.set_diag(tf.transpose(b, (0, 2, 1)), v.reshape(2, 3))
tf.linalg.slogdet(square)[1]
tf.linalg.solve(square, x)
tf.linalg.svd(x)[0]
tf.abs(tf.linalg.svd(square)[2])
tf.math.unsorted_segment_max(x, ids, 4)
tf.math.segment_min(x, ids)
tf.linalg.trace(square)
tf.linalg.triangular_solve(square, x, lower=True)
tf.linalg.triangular_solve(square, x, lower=True, adjoint=True)
tf.nn.avg_pool2d(images, 2, 2, "VALID")
tf.nn.avg_pool2d(images, ksize=[1, 3, 3, 1], strides=[1, 2, 2, 1], padding="SAME")
tf.nn.batch_normalization(x, x.mean(0), x.var(0), None, v[:4], 1e-3)
tf.nn.bias_add(images, v[:3])
tf.nn.compute_average_loss(v, global_batch_size=4)
tf.nn.conv1d(seq, k1, stride=2, padding="SAME")
tf.nn.conv2d(images, k2, strides=1, padding="SAME")
tf.nn.conv2d(images, k2, strides=[1, 2, 2, 1], padding="VALID")
tf.nn.conv2d(images, k2, 1, [[0, 0], [1, 0], [2, 1], [0, 0]])
tf.nn.conv2d(images, k2, 1, "SAME", dilations=2)
tf.nn.conv2d_transpose(images[..., :3], t2, (2, 16, 12, 4), strides=2, padding="SAME")
tf.nn.conv2d_transpose(images[..., :3], t2, (2, 15, 11, 4), strides=2, padding="SAME")
tf.nn.conv2d_transpose(images[..., :3], t2, (2, 17, 13, 4), strides=2, padding="VALID")
tf.nn.conv3d(volume, k3, strides=[1, 1, 1, 1, 1], padding="SAME")
tf.nn.convolution(seq, k1, padding="SAME")
tf.nn.depth_to_space(np.tile(images, (1, 1, 1, 4)), 2)
tf.nn.depthwise_conv2d(images, d2, [1, 1, 1, 1], "SAME")
tf.nn.elu(x)
tf.nn.embedding_lookup(x, [[0, 2], [1, 1]])
tf.nn.gelu(x)
tf.nn.gelu(x, approximate=True)
tf.nn.l2_loss(x)
tf.nn.leaky_relu(x)
tf.nn.leaky_relu(x, alpha=0.1)
tf.nn.log_softmax(x)
tf.nn.max_pool2d(images, 2, strides=1, padding="SAME")
tf.nn.max_pool(images, ksize=(2, 2), strides=(2, 2), padding="VALID")
tf.nn.lrn(images, depth_radius=1)
tf.nn.lrn(tf.transpose(images, (0, 2, 3, 1)), 2, 0.5, alpha=1e-2, beta=0.75)
tf.nn.moments(x, axes=[0])[1]
tf.nn.pool(images, window_shape=(2, 2), pooling_type="MAX", padding="SAME")
tf.nn.pool(images, (3, 2), "AVG", strides=(2, 1), padding="VALID")
tf.nn.relu6(x * 10)
tf.nn.selu(x)
tf.nn.separable_conv2d(images, d2, _waves(1, 1, 6, 2), strides=(1, 1, 1, 1), padding="SAME")
tf.nn.sigmoid_cross_entropy_with_logits(labels=p, logits=x)
tf.nn.silu(x, beta=2.0)
tf.nn.softmax(x, axis=0)
tf.nn.softmax_cross_entropy_with_logits(labels=p, logits=x)
tf.nn.softplus(x)
tf.nn.space_to_depth(images, 2)
tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=x)
tf.nn.swish(x)
tf.nn.weighted_cross_entropy_with_logits(labels=p, logits=x, pos_weight=3.0)
tf.image.adjust_brightness(bytes, 0.2)
tf.image.adjust_contrast(images, 1.5)
tf.image.adjust_gamma(images, 2.0, 0.5)
tf.image.adjust_hue(images, 0.1)
tf.image.adjust_saturation(images, 0.5)
tf.compat.v1.image.extract_image_patches(images, [1, 3, 2, 1], [1, 2, 1, 1], [1, 1, 1, 1], "VALID")
tf.compat.v1.image.resize(images, (5, 9))
tf.compat.v1.image.resize(images, (9, 5), align_corners=True)
tf.compat.v1.image.resize(images[0], (1, 9), "bilinear", align_corners=True)
tf.compat.v1.image.resize(bytes, (5, 9), tf.compat.v1.image.ResizeMethod.AREA)
tf.compat.v1.image.resize_bilinear(images, (5, 9), half_pixel_centers=True)
tf.compat.v1.image.resize_images(bytes, (5, 9), method=1, align_corners=True)
tf.compat.v1.image.resize_images(images, (16, 16), preserve_aspect_ratio=True)
tf.compat.v1.image.resize_nearest_neighbor(images, (11, 4))
tf.compat.v1.image.rgb_to_grayscale(images)
tf.image.central_crop(images, 0.5)
tf.image.convert_image_dtype(bytes, tf.float32)
tf.image.convert_image_dtype(images, tf.uint8)
tf.image.crop_and_resize(images, [[0.0, 0.1, 0.9, 1.0], [-0.2, 0.0, 1.0, 1.2]], [1, 0], (4, 5))
tf.image.crop_and_resize(images, [[0.9, 0.1, 0.2, 1.0]], [1], (3, 1), method="nearest", extrapolation_value=0.5)
tf.image.crop_to_bounding_box(images, 1, 2, 3, 4)
tf.image.extract_patches(images, [1, 3, 2, 1], [1, 2, 1, 1], [1, 1, 1, 1], "VALID")
tf.image.flip_left_right(images)
tf.image.flip_up_down(images[0])
tf.image.grayscale_to_rgb(tf.constant(images[..., :1]))
tf.image.hsv_to_rgb(images)
tf.image.pad_to_bounding_box(images, 1, 2, 10, 9)
tf.image.per_image_standardization(images)
tf.image.psnr(images, images[::-1], 1.0)
tf.image.resize(images, (5, 9))
tf.image.resize(bytes, [4, 3], method="nearest")
tf.image.resize(bytes, [4, 5], method=tf.image.ResizeMethod.AREA)
tf.image.resize(images, (11, 4), method="area")
tf.image.resize(images, (3, 2), antialias=True)
tf.image.resize(images, (16, 16), preserve_aspect_ratio=True)
tf.image.resize(images, (5, 9), "lanczos3")
tf.image.resize_with_crop_or_pad(images, 5, 9)
tf.image.resize_with_pad(images, 10, 10)
tf.image.rgb_to_grayscale(images)
tf.image.rgb_to_grayscale(bytes)
tf.image.rgb_to_hsv(images)
tf.image.rot90(images)
tf.image.rot90(images[0], k=3)
tf.image.sobel_edges(tf.constant(images))
tf.image.ssim(np.tile(images, (1, 2, 2, 1)), np.tile(images[::-1], (1, 2, 2, 1)), 1.0)
tf.image.total_variation(tf.constant(images))
tf.image.transpose(images)
tf.signal.frame(v, 3, 2)
tf.signal.frame(v, 4, 3, pad_end=True, pad_value=9.0)
tf.signal.hann_window(8)
tf.signal.hamming_window(7, periodic=False)
tf.cast(tf.constant([1.7, -1.7]), "int32")
tf.nest.map_structure(lambda a: a + 1, {"a": x, "b": [y]})["b"][0]
tf.constant(["a", "\u00e9"])
tf.constant("a", shape=(2, 1))
tf.constant(["a", "b"]) + "c"
tf.constant(["a", "b"]) == "b"
tf.constant(["a", "b"]) != ["a", "c"]
tf.convert_to_tensor([["a"], ["b"]])[1:, 0]
tf.expand_dims(words, -1)
tf.expand_dims("a", axis=0)
tf.reshape(words, (2, 2))
tf.squeeze(words[None])
tf.tile(["a", "b"], [2])
tf.transpose([["a", "b"], ["c", "d"]])
tf.concat([words, ["x"]], axis=0)
tf.stack([tf.constant("a"), tf.constant("b")])
tf.gather(words, [2, 0])
tf.boolean_mask(words, [True, False, True, False])
tf.identity(words)
tf.equal(words, "")
tf.not_equal(words, "")
tf.shape(words)
tf.rank([["a"]])
tf.size(words)
tf.numpy_function(lambda a: a + b"!", [tf.constant("a")], tf.string)
tf.strings.as_string([1.5, 2.0])
tf.strings.as_string([1.5, 1e-7], precision=2, scientific=True)
tf.strings.as_string([1.5, 100.0], shortest=True)
tf.strings.as_string([7, 123], width=4, fill="0")
tf.strings.as_string([True, False])
tf.strings.bytes_split(words).to_tensor()
tf.strings.join([words, "-", ["1", "2", "3", "4"]])
tf.strings.join([["a", "b"], ["c", "d"]], separator=", ")
tf.strings.length(words)
tf.strings.length(words, unit="UTF8_CHAR")
tf.strings.lower(words)
tf.strings.lower(words, encoding="utf-8")
tf.strings.upper(words)
tf.strings.upper(words, encoding="utf-8")
tf.strings.lower(tf.strings.split(["A B", "C"])).to_tensor()
tf.strings.reduce_join([["a", "b"], ["c", "d"]])
tf.strings.reduce_join([["a", "b"], ["c", "d"]], axis=0, separator="-")
tf.strings.reduce_join([["a", "b"], ["c", "d"]], axis=-1, keepdims=True)
tf.strings.reduce_join([["a", "b"], ["c", "d"]], axis=[1, 0])
tf.strings.reduce_join(tf.strings.unicode_split(["ab", "c"], "UTF-8"), axis=-1)
tf.strings.regex_full_match(words, ".*a.*")
tf.strings.regex_replace(words, "[aeiou]", "")
tf.strings.regex_replace("a<br />b<br />", "<br />", " ", replace_global=False)
tf.strings.regex_replace(["\u00e9tude 12"], r"(\w)\d", r"[\1\0]")
tf.strings.split("a b  c\tA ")
tf.strings.split(words).to_tensor()
tf.strings.split(words).to_tensor("-", shape=(None, 3))
tf.strings.split(words).row_lengths()
tf.strings.split(words).flat_values
tf.strings.split([["a b"], ["c"]]).to_tensor()
tf.strings.split(["a,,b", "", ","], ",").to_tensor()
tf.strings.split("a,b,c", sep=",", maxsplit=1)
tf.strings.split([" a b c "], maxsplit=1).to_tensor()
tf.strings.split("a b", sep="")
tf.strings.strip(words)
tf.strings.substr(words[:2], 1, 3)
tf.strings.substr(["abcd", "\u00e9bcd"], [-2, 0], [1, 2], unit="UTF8_CHAR")
tf.strings.substr("abc", 3, 2)
tf.strings.to_hash_bucket_fast(words, 100)
tf.strings.to_hash_bucket_strong(words, 100, key=[1, 2])
tf.strings.to_number(["1.5", "-2", " 3e2"])
tf.strings.to_number(["7", "-1"], out_type=tf.int64)
tf.strings.unicode_split(words, "UTF-8").to_tensor()
tf.strings.unicode_split("h\u00e9", input_encoding="UTF-8")
tf.strings.unicode_split(b"a\xffb", "UTF-8", replacement_char=63)
tf.strings.unicode_split(b"a\xffb", "UTF-8", errors="ignore")
tf.TensorArray(tf.float32, size=3).unstack(x).stack()
tf.TensorArray(tf.float32, size=0, dynamic_size=True).write(0, x[0]).write(1, y[0]).concat()
tf.TensorArray(tf.int32, size=3).scatter([2, 0], i[:, :2]).gather([0, 2])
tf.TensorArray(tf.float32, size=2).split(v, [2, 4]).read(1)
tf.TensorArray(tf.float32, size=2).write(1, v).stack()
tf.TensorArray(tf.float32, size=2).size()
raises(tf.TensorArray(tf.float32, size=1).write, 1, 2.0)
[raises(tf.debugging.assert_equal, [1, 2], each) for each in ([1, 2], [1, 3], 1)]
[raises(tf.debugging.assert_none_equal, [1, 2], each) for each in ([2, 1], [1, 3])]
[raises(tf.debugging.assert_greater, [1, 2], each) for each in (0, 1)]
[raises(tf.debugging.assert_greater_equal, [1, 2], each) for each in (1, 2)]
[raises(tf.debugging.assert_less, [1, 2], each) for each in (3, 2)]
[raises(tf.debugging.assert_less_equal, [1, 2], each) for each in (2, 1)]
[raises(tf.debugging.assert_negative, each) for each in ([-1.0], [0.0])]
[raises(tf.debugging.assert_non_negative, each) for each in ([0.0], [-1.0])]
[raises(tf.debugging.assert_non_positive, each) for each in ([0.0], [1.0])]
[raises(tf.debugging.assert_positive, each) for each in ([1.0], [0.0])]
[raises(tf.debugging.assert_near, x, each) for each in (x, x + 1e-8, x + 1e-4)]
[raises(tf.debugging.assert_near, x, x + 0.01, rtol=0.0, atol=each) for each in (0.02, 0.001)]
[raises(tf.debugging.assert_all_finite, each, "not finite") for each in ([1.0], [np.nan], [np.inf])]
[raises(tf.debugging.check_numerics, each, "not finite") for each in ([1.0], [np.nan])]
tf.debugging.check_numerics(x, "not finite")
[raises(tf.debugging.assert_rank, x, each) for each in (2, 1)]
[raises(tf.debugging.assert_rank_at_least, x, each) for each in (1, 2, 3)]
[raises(tf.debugging.assert_rank_in, x, each) for each in ([1, 2], (0, 3))]
[raises(tf.debugging.assert_scalar, each) for each in (1.0, [1.0])]
[raises(tf.debugging.assert_type, tf.constant(1.0), each) for each in (tf.float32, tf.int32)]
[raises(tf.debugging.assert_integer, tf.constant(each)) for each in (1, 1.0)]
[raises(tf.debugging.assert_shapes, [(x, each)]) for each in ((3, 4), (None, 4), ("n", "m"), ("n", "n"), (3,), "NM")]
[raises(tf.debugging.assert_shapes, [(x, ("n", 4)), (y, each)]) for each in (("n", 4), ("n", "n"), (..., 4), ("*", "n"))]
[raises(tf.debugging.assert_shapes, [(b, each)]) for each in ((..., 4), (..., 3), (".", 3, 4))]
[raises(tf.debugging.assert_proper_iterable, each) for each in ([1], "a", tf.constant([1]), 1)]
[raises(tf.debugging.assert_same_float_dtype, [tf.constant(1.0), each]) for each in (tf.constant(2.0), tf.constant(1))]
[tf.debugging.is_numeric_tensor(each) for each in (tf.constant(1), tf.constant(True), 1)]
[raises(tf.debugging.Assert, each, ["data"]) for each in (True, tf.constant(False))]
[raises(tf.assert_equal, 1, 2), raises(tf.assert_greater, 2, 1), raises(tf.assert_less, 2, 1), raises(tf.assert_rank, 1, 1)]
""".strip().splitlines()

# TensorFlow rounds positions to 1/1024 there.
ROUNDED = 'tf.image.resize(images, (5, 9), method="bicubic")'


def computed(expression, tf):
    """The value of an expression as an array, with TensorFlow or its stand-in as `tf`."""
    found = np.asarray(eval(expression, {**DATA, "tf": tf, "_waves": _waves}))
    return found.astype("S") if found.dtype == object else found
