"""Keras's `config`: global settings, including devices. Defined in engine/settings.py and engine/devices.py."""

from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine.devices import get_device as get_device
from nbkeras.engine.devices import set_device as set_device
from nbkeras.engine.devices import set_matmul as set_matmul
from nbkeras.engine.dtype_policy import dtype_policy as dtype_policy
from nbkeras.engine.dtype_policy import set_dtype_policy as set_dtype_policy
from nbkeras.engine.settings import backend as backend
from nbkeras.engine.settings import disable_interactive_logging as disable_interactive_logging
from nbkeras.engine.settings import disable_traceback_filtering as disable_traceback_filtering
from nbkeras.engine.settings import enable_interactive_logging as enable_interactive_logging
from nbkeras.engine.settings import enable_traceback_filtering as enable_traceback_filtering
from nbkeras.engine.settings import epsilon as epsilon
from nbkeras.engine.settings import floatx as floatx
from nbkeras.engine.settings import image_data_format as image_data_format
from nbkeras.engine.settings import is_interactive_logging_enabled as is_interactive_logging_enabled
from nbkeras.engine.settings import is_traceback_filtering_enabled as is_traceback_filtering_enabled
from nbkeras.engine.settings import next_seed as next_seed
from nbkeras.engine.settings import on_seed as on_seed
from nbkeras.engine.settings import set_epsilon as set_epsilon
from nbkeras.engine.settings import set_floatx as set_floatx
from nbkeras.engine.settings import set_image_data_format as set_image_data_format
from nbkeras.engine.settings import set_random_seed as set_random_seed
from nbkeras.engine.settings import set_seed as set_seed
from nbkeras.engine.settings import standardize_dtype as standardize_dtype
from nbkeras.engine.switches import disable_flash_attention as disable_flash_attention
from nbkeras.engine.switches import enable_flash_attention as enable_flash_attention
from nbkeras.engine.switches import enable_unsafe_deserialization as enable_unsafe_deserialization
from nbkeras.engine.switches import is_flash_attention_enabled as is_flash_attention_enabled
from nbkeras.engine.switches import is_nnx_enabled as is_nnx_enabled
from nbkeras.engine.switches import max_epochs as max_epochs
from nbkeras.engine.switches import max_steps_per_epoch as max_steps_per_epoch
from nbkeras.engine.switches import set_backend as set_backend
from nbkeras.engine.switches import set_max_epochs as set_max_epochs
from nbkeras.engine.switches import set_max_steps_per_epoch as set_max_steps_per_epoch

_lazy_names.attach(globals())
