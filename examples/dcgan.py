"""
A generative adversarial network
================================

Two networks play against each other: a generator makes images out of noise, a discriminator tells them from real ones.
Both are convolutional (a DCGAN), and both learn in one ``train_step``.

The data are the 8x8 digits that come with nbkeras. The losses of a GAN say little, so a classifier that was trained on real
digits judges the samples: its mean certainty is 0.81 (0.93 for real test images), and all ten digits occur, each with 7 to 18 %.
The whole program takes about 17 seconds on two cores.
"""

import matplotlib.pyplot as plt
import numpy as np

import nbkeras as keras
from nbkeras import layers, ops
from nbkeras.datasets import digits

EPOCHS = 50
LATENT = 32

keras.utils.set_random_seed(0)
(x_train, y_train), (x_test, y_test) = digits.load_data()
x_train = x_train[..., None].astype("float32") / 16
x_test = x_test[..., None].astype("float32") / 16

# %%
# The two networks
# ----------------
#
# The discriminator returns a logit: positive for real images, negative for made ones.

discriminator = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        layers.Conv2D(32, 3, padding="same"),
        layers.LeakyReLU(negative_slope=0.2),
        layers.Conv2D(64, 3, strides=2, padding="same"),
        layers.LeakyReLU(negative_slope=0.2),
        layers.Conv2D(64, 3, strides=2, padding="same"),
        layers.LeakyReLU(negative_slope=0.2),
        layers.Flatten(),
        layers.Dense(1),
    ],
    name="discriminator",
)
generator = keras.Sequential(
    [
        keras.Input((LATENT,)),
        layers.Dense(2 * 2 * 64, use_bias=False),
        layers.BatchNormalization(),
        layers.LeakyReLU(negative_slope=0.2),
        layers.Reshape((2, 2, 64)),
        layers.Conv2DTranspose(64, 4, strides=2, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.LeakyReLU(negative_slope=0.2),
        layers.Conv2DTranspose(32, 4, strides=2, padding="same"),
        layers.LeakyReLU(negative_slope=0.2),
        layers.Conv2D(1, 3, padding="same", activation="sigmoid"),
    ],
    name="generator",
)

# %%
# The training step
# -----------------
#
# First the discriminator learns from half real and half made images, then the generator learns to make images that the
# discriminator takes for real.


class GAN(keras.Model):
    def __init__(self, discriminator, generator):
        super().__init__()
        self.discriminator, self.generator = discriminator, generator
        self.seed_generator = keras.random.SeedGenerator(0)
        self.d_loss = keras.metrics.Mean(name="d_loss")
        self.g_loss = keras.metrics.Mean(name="g_loss")

    @property
    def metrics(self):
        return [self.d_loss, self.g_loss]

    def compile(self, d_optimizer, g_optimizer):
        super().compile()
        self.d_optimizer, self.g_optimizer = d_optimizer, g_optimizer
        self.loss_fn = keras.losses.BinaryCrossentropy(from_logits=True)

    def train_step(self, data):
        real, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        size = ops.shape(real)[0]
        ones, zeros = ops.ones((size, 1)), ops.zeros((size, 1))
        fake = self.generator(self.noise(size), training=True)
        with keras.GradientTape() as tape:
            real_loss = self.loss_fn(0.9 * ones, self.discriminator(real, training=True))
            fake_loss = self.loss_fn(zeros, self.discriminator(fake, training=True))
            d_loss = (real_loss + fake_loss) / 2
        weights = self.discriminator.trainable_weights
        self.d_optimizer.apply(tape.gradient(d_loss, weights), weights)

        with keras.GradientTape() as tape:
            fake = self.generator(self.noise(size), training=True)
            g_loss = self.loss_fn(ones, self.discriminator(fake, training=True))
        weights = self.generator.trainable_weights
        self.g_optimizer.apply(tape.gradient(g_loss, weights), weights)

        self.d_loss.update_state(d_loss)
        self.g_loss.update_state(g_loss)
        return {"d_loss": self.d_loss.result(), "g_loss": self.g_loss.result()}

    def noise(self, size):
        return keras.random.normal((size, LATENT), seed=self.seed_generator)


gan = GAN(discriminator, generator)
gan.compile(keras.optimizers.Adam(1e-3, beta_1=0.5), keras.optimizers.Adam(4e-4, beta_1=0.5))
history = gan.fit(x_train, batch_size=64, epochs=EPOCHS, verbose=2).history

plt.plot(history["d_loss"], label="discriminator")
plt.plot(history["g_loss"], label="generator")
plt.xlabel("epoch")
plt.ylabel("loss")
plt.legend()
plt.show()

# %%
# Samples
# -------
#
# The classifier labels each sample. It is most certain for samples that look like digits.

classifier = keras.Sequential([layers.Conv2D(32, 3, activation="relu"), layers.Flatten(), layers.Dense(10, "softmax")])
classifier.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
classifier.fit(x_train, y_train, batch_size=64, epochs=15, verbose=0)
print(f"accuracy of the classifier on real test images: {classifier.evaluate(x_test, y_test, verbose=0)[1]:.3f}")

samples = generator.predict(np.random.default_rng(0).normal(size=(1000, LATENT)).astype("float32"), verbose=0)
for name, images in {"real test images": x_test, "samples": samples}.items():
    probabilities = classifier.predict(images, verbose=0)
    share = np.bincount(probabilities.argmax(axis=1), minlength=10) / len(images)
    print(f"{name}: mean certainty {probabilities.max(axis=1).mean():.2f}, shares of the digits {share.round(2)}")

# sphinx_gallery_thumbnail_number = 2
figure, axes = plt.subplots(5, 10, figsize=(8, 4.2))
for axis, sample in zip(axes.flat, samples, strict=False):
    axis.imshow(sample[..., 0], cmap="gray_r")
    axis.axis("off")
plt.show()
