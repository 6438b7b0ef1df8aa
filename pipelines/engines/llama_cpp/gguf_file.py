"""A causal language model written as one GGUF file, by the ``gguf`` package's writer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fti.pipelines.engines.llama_cpp.gguf_vocabulary import Vocabulary, read_vocabulary
from fti.pipelines.engines.llama_cpp.gguf_weights import (
    Tensor,
    head_width,
    packed,
    renamed,
    require_known,
    stored,
)
from fti.pipelines.engines.model_config import GgufType

if TYPE_CHECKING:
    from gguf import GGUFWriter


def write_gguf(
    path: Path,
    tensors: Sequence[Tensor],
    config: Any,
    tokenizer: Any,
    *,
    name: str,
    kind: GgufType,
) -> None:
    """Write a model with its tokenizer and chat template into one file.

    One tensor at a time is in memory.

    Args:
        path: the file; it is overwritten.
        tensors: the model's, under transformers' names.
        config: its transformers configuration.
        tokenizer: its transformers tokenizer, with the chat template that was trained with.
        name: what the file calls the model.
        kind: the format of its matrices.

    Raises:
        ContractError: llama.cpp would compute or read otherwise than transformers does.
        IntegrityError: some weights are no numbers.
    """
    from gguf import GGUFWriter

    arch = require_known(config, model=name)
    vocabulary = read_vocabulary(tokenizer, config.vocab_size, model=name)
    ready = renamed(tensors, config, model=name)
    writer = GGUFWriter(path, arch)
    try:
        _say_model(writer, config, name, kind)
        _say_vocabulary(writer, vocabulary)
        for tensor in ready:
            form, size = stored(tensor, kind)
            writer.add_tensor_info(tensor.name, tensor.shape, _dtype(), size, raw_dtype=form)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in ready:
            writer.write_tensor_data(packed(tensor, kind, model=name))
    finally:
        writer.close()


def _dtype() -> Any:
    import numpy as np

    return np.dtype(np.float32)  # only where no format is named, and one always is


def _say_model(writer: GGUFWriter, config: Any, name: str, kind: GgufType) -> None:
    from gguf import GGML_QUANT_VERSION, LlamaFileType, RopeScalingType

    rope = config.rope_parameters or {}
    width = head_width(config)
    file_type = LlamaFileType.MOSTLY_F16 if kind == "f16" else LlamaFileType.MOSTLY_Q8_0
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(file_type)
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(rope.get("rope_theta", 10000.0))
    if rope.get("rope_type") == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])


def _say_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model("gpt2")  # llama.cpp's name for byte-level BPE
    writer.add_tokenizer_pre(vocabulary.cut)
    writer.add_token_list(vocabulary.pieces)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    writer.add_add_bos_token(vocabulary.begins)
    writer.add_eot_token_id(vocabulary.ends)
    writer.add_eos_token_id(vocabulary.ends if vocabulary.eos is None else vocabulary.eos)
    if vocabulary.bos is not None:
        writer.add_bos_token_id(vocabulary.bos)
    if vocabulary.pad is not None:
        writer.add_pad_token_id(vocabulary.pad)
    writer.add_chat_template(vocabulary.template)
