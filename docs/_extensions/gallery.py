"""The order of the examples on the gallery's page: from simple to special, by subject."""

ORDER = (
    "digits_mlp digits_cnn mnist_cnn image_folder resnet mobilenet unet grad_cam siamese knowledge_distillation mean_teacher "
    "transfer_learning "
    "autoencoder vae dcgan wgan_gp anomaly_autoencoder tabular forecast keyword_spotting bilstm text_transformer char_rnn "
    "mini_gpt seq2seq_attention dqn actor_critic pinn maml per_sample_gradients optuna_search custom_kernel"
).split()


class Order:
    """The key by which sphinx-gallery sorts the files of a folder."""

    def __init__(self, folder: str):
        pass

    def __call__(self, file: str) -> int:
        return ORDER.index(file.removesuffix(".py"))
