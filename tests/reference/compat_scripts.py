"""Small scripts in the style of Keras 2's examples, and one of Keras 3, for `python -m nbkeras script.py`."""

import os
import subprocess
import sys
import textwrap

KERAS_2 = ("--keras", "2")


def run_script(folder, source, *arguments, expect=0, options=()):
    """The output of a script, run as the command line runs it; options: those before the script's name."""
    path = folder / "script.py"
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    command = [sys.executable, "-W", "error", "-m", "nbkeras", *options, str(path), *arguments]
    # with PYTHONSAFEPATH, which tox sets, no script could import the files beside it
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder, env=environment)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + (done.stderr if expect else "")


SCRIPTS = {
    "classifier": """
        import numpy as np
        import keras
        from keras.layers import Activation, Conv2D, Dense, Dropout, Flatten, MaxPooling2D
        from keras.models import Sequential
        from keras.utils import np_utils

        x = np.random.rand(40, 8, 8, 1).astype(np.float)
        labels = np.random.randint(0, 3, 40)
        y = np_utils.to_categorical(labels, 3)
        model = Sequential()
        model.add(Conv2D(4, (3, 3), padding="same", input_shape=x.shape[1:]))
        model.add(Activation("relu"))
        model.add(MaxPooling2D(pool_size=(2, 2)))
        model.add(Dropout(0.25))
        model.add(Flatten())
        model.add(Dense(3, kernel_initializer="he_normal"))
        model.add(Activation("softmax"))
        model.compile(loss="categorical_crossentropy", optimizer=keras.optimizers.Adadelta(), metrics=["accuracy"])
        history = model.fit(x, y, batch_size=8, epochs=2, verbose=0, validation_split=0.2)
        assert sorted(history.history) == ["accuracy", "loss", "val_accuracy", "val_loss"]
        score = model.evaluate(x, y, verbose=0)
        np.testing.assert_allclose(score[1], np.mean(model.predict_classes(x) == labels), rtol=1e-6)
        features = keras.models.Model(model.input, model.layers[4].output)
        f = keras.backend.function([model.layers[0].input, keras.backend.learning_phase()], [model.layers[4].output])
        np.testing.assert_allclose(features.predict(x), f([x, 0])[0], rtol=1e-6)
        """,
    "siamese": """
        import numpy as np
        from keras import backend as K
        from keras.layers import Dense, Dropout, Flatten, Input, Lambda
        from keras.models import Model
        from keras.optimizers import RMSprop

        def distance(pair):
            a, b = pair
            return K.sqrt(K.maximum(K.sum(K.square(a - b), axis=1, keepdims=True), K.epsilon()))

        def distance_shape(shapes):
            return (shapes[0][0], 1)

        def contrastive(y_true, y_pred):
            return K.mean(y_true * K.square(y_pred) + (1 - y_true) * K.square(K.maximum(1 - y_pred, 0)))

        def accuracy(y_true, y_pred):
            return K.mean(K.equal(y_true, K.cast(y_pred < 0.5, y_true.dtype)))

        image = Input(shape=(4, 4))
        base = Model(image, Dense(8, activation="relu")(Dropout(0.1)(Flatten()(image))))
        first, second = Input(shape=(4, 4)), Input(shape=(4, 4))
        model = Model([first, second], Lambda(distance, output_shape=distance_shape)([base(first), base(second)]))
        model.compile(loss=contrastive, optimizer=RMSprop(lr=0.01), metrics=[accuracy])
        pairs, y = np.random.rand(32, 2, 4, 4), np.random.randint(0, 2, 32)
        history = model.fit([pairs[:, 0], pairs[:, 1]], y, epochs=4, verbose=0,
                            validation_data=([pairs[:, 0], pairs[:, 1]], y))
        assert history.history["loss"][-1] < history.history["loss"][0]
        measured = np.mean((model.predict([pairs[:, 0], pairs[:, 1]]).ravel() < 0.5) == y)
        np.testing.assert_allclose(history.history["val_accuracy"][-1], measured, rtol=1e-6)
        """,
    "variational autoencoder": """
        import numpy as np
        from keras import backend as K
        from keras.layers import Dense, Input, Lambda
        from keras.losses import binary_crossentropy
        from keras.models import Model

        def sample(arguments):
            mean, log_var = arguments
            noise = K.random_normal(shape=(K.shape(mean)[0], K.int_shape(mean)[1]))
            return mean + K.exp(0.5 * log_var) * noise

        inputs = Input(shape=(12,), name="encoder_input")
        hidden = Dense(8, activation="relu")(inputs)
        mean, log_var = Dense(2, name="mean")(hidden), Dense(2, name="log_var")(hidden)
        encoder = Model(inputs, [mean, log_var, Lambda(sample, output_shape=(2,), name="z")([mean, log_var])])
        latent = Input(shape=(2,))
        decoder = Model(latent, Dense(12, activation="sigmoid")(latent))
        outputs = decoder(encoder(inputs)[2])
        vae = Model(inputs, outputs, name="vae")
        reconstruction = binary_crossentropy(inputs, outputs)
        reconstruction *= 12
        kl = K.sum(1 + log_var - K.square(mean) - K.exp(log_var), axis=-1)
        kl *= -0.5
        vae.add_loss(K.mean(reconstruction + kl))
        vae.compile(optimizer="adam")
        x = np.random.rand(64, 12)
        history = vae.fit(x, epochs=30, batch_size=16, validation_data=(x, None), verbose=0)
        assert history.history["loss"][-1] < history.history["loss"][0]
        assert len(history.history["val_loss"]) == 30
        assert [a.shape for a in encoder.predict(x)] == [(64, 2)] * 3
        """,
    "adversaries": """
        import numpy as np
        from keras import layers
        from keras.layers import Dense, Embedding, Flatten, Input
        from keras.layers.advanced_activations import LeakyReLU
        from keras.models import Model, Sequential
        from keras.optimizers import Adam
        from keras.utils.generic_utils import Progbar

        critic = Sequential([Dense(6, input_shape=(4,)), LeakyReLU(0.2)])
        image = Input(shape=(4,))
        features = critic(image)
        fake = Dense(1, activation="sigmoid", name="generation")(features)
        kind = Dense(3, activation="softmax", name="auxiliary")(features)
        discriminator = Model(image, [fake, kind])
        losses = ["binary_crossentropy", "sparse_categorical_crossentropy"]
        discriminator.compile(optimizer=Adam(lr=0.01, beta_1=0.5), loss=losses)
        maker = Sequential([Dense(4, input_dim=5, activation="tanh"), Flatten()])
        latent, label = Input(shape=(5,)), Input(shape=(1,), dtype="int32")
        generator = Model([latent, label], maker(layers.multiply([latent, Embedding(3, 5)(label)])))  # 3 axes where 2 are due
        discriminator.trainable = False
        combined = Model([latent, label], discriminator(generator([latent, label])))
        combined.compile(optimizer=Adam(lr=0.01), loss=losses)
        before = discriminator.get_weights()
        bar = Progbar(target=2, verbose=0)
        for step in range(2):
            noise, labels = np.random.uniform(-1, 1, (8, 5)), np.random.randint(0, 3, 8)
            made = generator.predict([noise, labels.reshape((-1, 1))], verbose=0)
            x, y = np.concatenate([np.random.rand(8, 4), made]), np.array([0.95] * 8 + [0] * 8)
            weights = [np.ones(16), np.concatenate((np.ones(8) * 2, np.zeros(8)))]
            results = discriminator.train_on_batch(x, [y, np.concatenate([labels, labels])], sample_weight=weights)
            assert len(results) == len(discriminator.metrics_names) == 3
            middle = discriminator.get_weights()
            combined.train_on_batch([noise, labels.reshape((-1, 1))], [np.ones(8) * 0.95, labels])
            assert all((a == b).all() for a, b in zip(middle, discriminator.get_weights()))
            bar.update(step + 1)
        assert all((a != b).any() for a, b in zip(before, middle))
        """,
    "text": """
        import numpy as np
        from keras.initializers import Constant
        from keras.layers import Bidirectional, Conv1D, Dense, Embedding, GlobalMaxPooling1D, Input, LSTM
        from keras.models import Model
        from keras.preprocessing import sequence
        from keras.preprocessing.text import Tokenizer

        texts = ["the cat sat on the mat", "a dog ran", "the dog sat", "a cat ran on"] * 4
        labels = np.arange(16) % 2
        tokenizer = Tokenizer(num_words=20)
        tokenizer.fit_on_texts(texts)
        x = sequence.pad_sequences(tokenizer.texts_to_sequences(texts), maxlen=6)
        table = np.random.rand(len(tokenizer.word_index) + 1, 5)
        words = Input(shape=(6,), dtype="int32")
        embedded = Embedding(len(table), 5, embeddings_initializer=Constant(table), input_length=6, trainable=False)(words)
        both = Bidirectional(LSTM(4, return_sequences=True))(embedded)
        outputs = Dense(1, activation="sigmoid")(GlobalMaxPooling1D()(Conv1D(4, 3, activation="relu")(both)))
        model = Model(words, outputs)
        model.compile("rmsprop", "binary_crossentropy", metrics=["acc"])
        history = model.fit(x, labels, epochs=2, verbose=0)
        assert set(history.history) == {"loss", "acc"}
        np.testing.assert_allclose(model.layers[1].get_weights()[0], table, rtol=1e-6)
        assert tokenizer.sequences_to_matrix(x.tolist(), mode="binary").shape == (16, 20)
        """,
    "images from a generator": """
        import numpy as np
        from keras.callbacks import LambdaCallback, LearningRateScheduler, ReduceLROnPlateau
        from keras.layers import BatchNormalization, Conv2D, Conv2DTranspose, Dense, Flatten
        from keras.models import Sequential
        from keras.preprocessing.image import ImageDataGenerator

        x, y = np.random.rand(20, 8, 8, 3), np.eye(2)[np.arange(20) % 2]
        model = Sequential([Conv2D(3, 3, strides=2, input_shape=(8, 8, 3)), BatchNormalization(), Conv2DTranspose(2, 3)])
        model.add(Flatten())
        model.add(Dense(2, activation="softmax"))
        model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
        made = ImageDataGenerator(width_shift_range=0.1, horizontal_flip=True)
        made.fit(x)
        seen = []
        callbacks = [LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1)), ReduceLROnPlateau(factor=0.5, min_lr=1e-6),
                     LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs["lr"]))]
        model.fit_generator(made.flow(x, y, batch_size=8), epochs=2, verbose=0, validation_data=(x, y), workers=4,
                            callbacks=callbacks)
        np.testing.assert_allclose(seen, [0.1, 0.05], rtol=1e-6)
        """,
    "sequence to sequence": """
        import numpy as np
        from keras.layers import Input, LSTM, Dense
        from keras.models import Model

        source = Input(shape=(None, 5))
        _, h, c = LSTM(6, return_state=True)(source)
        target = Input(shape=(None, 4))
        decoder = LSTM(6, return_sequences=True, return_state=True)
        head = Dense(4, activation="softmax")
        sequences, _, _ = decoder(target, initial_state=[h, c])
        model = Model([source, target], head(sequences))
        model.compile(optimizer="rmsprop", loss="categorical_crossentropy", metrics=["accuracy"])
        x, t = np.random.rand(10, 3, 5), np.eye(4)[np.random.randint(0, 4, (10, 6))]
        model.fit([x, t], t, epochs=1, verbose=0, validation_split=0.2)
        encoder = Model(source, [h, c])
        states = [Input(shape=(6,)), Input(shape=(6,))]
        sequences, h, c = decoder(target, initial_state=states)
        stepper = Model([target] + states, [head(sequences), h, c])
        values, parts = encoder.predict(x), []
        for i in range(6):
            out, *values = stepper.predict([t[:, i : i + 1]] + values)
            parts.append(out)
        np.testing.assert_allclose(np.concatenate(parts, 1), model.predict([x, t]), rtol=1e-4, atol=1e-6)
        """,
    "keras 3": """
        import numpy as np
        import keras
        from keras import layers, ops

        @keras.saving.register_keras_serializable()
        class Scaled(layers.Layer):
            def __init__(self, units, **kwargs):
                super().__init__(**kwargs)
                self.units = units

            def build(self, input_shape):
                self.kernel = self.add_weight(shape=(input_shape[-1], self.units), initializer="glorot_uniform", name="kernel")

            def call(self, x):
                return ops.matmul(x, self.kernel) * 2.0

        inputs = keras.Input((4,))
        outputs = layers.Dense(1)(ops.relu(Scaled(3)(inputs)))
        model = keras.Model(inputs, outputs)
        model.compile(optimizer=keras.optimizers.Adam(1e-2), loss="mse", metrics=[keras.metrics.RootMeanSquaredError()])
        x = np.random.rand(16, 4)
        history = model.fit(x, x.sum(1), epochs=2, verbose=0)
        assert set(history.history) == {"loss", "root_mean_squared_error"}
        model.save("model.keras")
        np.testing.assert_array_equal(keras.saving.load_model("model.keras").predict(x), model.predict(x))
        assert keras.ops.convert_to_numpy(keras.random.normal((2, 3))).shape == (2, 3)
        """,
}
