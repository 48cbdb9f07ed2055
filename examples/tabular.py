"""
A table of numbers and words
============================

Keras's preprocessing layers turn each column of a table into numbers: ``Normalization`` for amounts, ``StringLookup`` and
``CategoryEncoding`` for words, ``Discretization`` for age, which has a nonlinear effect. A functional model with one input for
each column combines them.

The script makes the table: 6,000 customers; the target is whether a customer cancels, with a probability that depends on the
columns. The network reaches an **AUC of 0.836** on test rows; a logistic regression on the plain numbers reaches 0.675, and
the true probabilities 0.852, which no model can beat except by luck. It takes 4 s on two cores.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

import nbkeras as keras
from nbkeras import layers

EPOCHS = 15
ROWS = 6000

keras.utils.set_random_seed(0)

# %%
# The table
# ---------
# Young and old customers cancel more often than others, and the plan changes what many calls mean.

rng = np.random.default_rng(0)
PLANS, CITIES = ["basic", "family", "business"], ["Bern", "Lima", "Oslo", "Quito", "Turin"]
table = {
    "age": rng.integers(18, 80, ROWS),
    "fee": rng.gamma(4, 10, ROWS),
    "calls": rng.poisson(3, ROWS),
    "plan": rng.choice(PLANS, ROWS, p=[0.5, 0.3, 0.2]),
    "city": rng.choice(CITIES, ROWS),
}
logit = (
    ((table["age"] - 48) / 15) ** 2
    - 2.5
    + 0.03 * (table["fee"] - 40)
    + np.where(table["plan"] == "business", -0.5, 0.5) * (table["calls"] - 3)
    + np.array([0.0, 0.8, -0.8, 0.4, -0.4])[[CITIES.index(city) for city in table["city"]]]
)
probability = 1 / (1 + np.exp(-logit))
cancelled = rng.random(ROWS) < probability
cut = ROWS * 3 // 4
train = {name: column[:cut] for name, column in table.items()}
test = {name: column[cut:] for name, column in table.items()}
for row in range(3):
    print({name: column[row].item() for name, column in table.items()}, "->", bool(cancelled[row]))

# %%
# Words are not tensors
# ---------------------
# ``StringLookup`` takes arrays of str, so it works before the model. A word that ``adapt`` did not see becomes 0.

lookups = {}
for name in "plan", "city":
    lookups[name] = layers.StringLookup()
    lookups[name].adapt(train[name])
    print(name, lookups[name].get_vocabulary())


def numbers(table):
    return {name: lookups[name](column) if name in lookups else column for name, column in table.items()}


# %%
# The model
# ---------
# The other layers are part of the model, so it takes the columns unchanged.

inputs, features = {}, []
for name in "fee", "calls":
    inputs[name] = keras.Input((1,), name=name)
    normalize = layers.Normalization(axis=None)
    normalize.adapt(train[name])
    features.append(normalize(inputs[name]))

inputs["age"] = keras.Input((1,), name="age")
limits = [25, 32, 40, 48, 56, 64, 72]
bins = layers.Discretization(bin_boundaries=limits)(inputs["age"])
features.append(layers.CategoryEncoding(len(limits) + 1, output_mode="one_hot")(bins))

for name, lookup in lookups.items():
    inputs[name] = keras.Input((1,), name=name, dtype="int32")
    features.append(layers.CategoryEncoding(lookup.vocabulary_size(), output_mode="one_hot")(inputs[name]))

x = layers.Concatenate()(features)
x = layers.Dense(32, activation="relu")(x)
x = layers.Dropout(0.3)(x)
x = layers.Dense(16, activation="relu")(x)
model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))
model.compile(keras.optimizers.Adam(0.003), "binary_crossentropy", metrics=[keras.metrics.AUC(name="auc")])
model.summary()
history = model.fit(
    numbers(train),
    cancelled[:cut],
    batch_size=64,
    epochs=EPOCHS,
    validation_data=(numbers(test), cancelled[cut:]),
    verbose=2,
).history

# %%
# Results
# -------

predicted = model.predict(numbers(test), verbose=0)[:, 0]
plain = StandardScaler().fit_transform(np.column_stack(list(numbers(table).values())))
linear = LogisticRegression().fit(plain[:cut], cancelled[:cut])
scores = {
    "logistic regression": linear.predict_proba(plain[cut:])[:, 1],
    "network": predicted,
    "true probabilities": probability[cut:],
}
aucs = {name: roc_auc_score(cancelled[cut:], score) for name, score in scores.items()}
for name, auc in aucs.items():
    print(f"{name}: AUC {auc:.3f}")

plt.plot(range(1, EPOCHS + 1), history["auc"], label="training")
plt.plot(range(1, EPOCHS + 1), history["val_auc"], label="test")
plt.axhline(aucs["logistic regression"], color="gray", linestyle=":", label="logistic regression, test")
plt.axhline(aucs["true probabilities"], color="black", linestyle=":", label="true probabilities, test")
plt.xlabel("epoch")
plt.ylabel("AUC")
plt.legend()
plt.show()

# %%
# The effect of age: predictions for one customer at all ages.

ages = np.arange(18, 80)
customer = {
    name: np.repeat(np.array([value]), len(ages))
    for name, value in {"fee": 40.0, "calls": 3, "plan": "basic", "city": "Bern"}.items()
}
# sphinx_gallery_thumbnail_number = 2
plt.plot(ages, model.predict(numbers(customer | {"age": ages}), verbose=0), drawstyle="steps-mid", label="network")
plt.plot(ages, 1 / (1 + np.exp(2.5 - ((ages - 48) / 15) ** 2)), color="black", linestyle=":", label="true probability")
plt.xlabel("age")
plt.ylabel("probability to cancel")
plt.legend()
plt.show()
