"""Tiny transformers of each family that reads text, as transformers itself builds them."""

import json

import torch

from tests.models.cutting import settle

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "on", "mat", "dog", "##s", "##ing", "run")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
TOKENS = 70
SIZES = {
    "bert": {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64},
    "roberta": {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64},
    "mpnet": {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64},
    "distilbert": {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 64},
}
FAMILIES = tuple(SIZES)
PAD = {"bert": 0, "roberta": 1, "mpnet": 1, "distilbert": 0}


def tiny(family):
    """A network of transformers' with weights of its own, in eval mode."""
    import transformers

    config = transformers.CONFIG_MAPPING[family](
        vocab_size=TOKENS, max_position_embeddings=40, pad_token_id=PAD[family], **SIZES[family]
    )
    torch.manual_seed(0)
    kind = transformers.MODEL_MAPPING[type(config)]
    extra = {} if family == "distilbert" else {"add_pooling_layer": False}
    return settle(kind(config, **extra))


def ids(family, lengths=(7, 3, 5), longest=None):
    """int64 [n, longest]: texts of these lengths, padded."""
    torch.manual_seed(1)
    found = torch.full((len(lengths), longest or max(lengths)), PAD[family])
    for row, length in enumerate(lengths):
        found[row, :length] = torch.randint(5, TOKENS, (length,))
    return found


def wordpiece():
    """tokenizer.json of a BERT for these words, all letters, and pieces that begin and go on with each."""
    vocab = [*WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    vocab += [f"[unused{index}]" for index in range(TOKENS - len(vocab))]
    numbered = {token: index for index, token in enumerate(vocab)}
    return json.dumps({
        "version": "1.0", "truncation": None,
        "padding": {"strategy": {"Fixed": 12}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                    "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [
            {"id": index, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}
            for index, token in enumerate(WORDS[:5])
        ],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                     {"SpecialToken": {"id": "[SEP]", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {token: {"id": token, "ids": [numbered[token]], "tokens": [token]}
                               for token in ("[CLS]", "[SEP]")},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": numbered},
    })  # fmt: skip


def save_sentence_transformers(folder, family="bert", pooling="mean", dense=0, normalize=True):
    """A directory as sentence-transformers writes it; returns the network inside and the Dense layer's tensors."""
    import safetensors.torch

    network = tiny(family)
    network.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(wordpiece(), encoding="utf-8")
    mode = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens"}[pooling]
    parts = [("Transformer", ""), ("Pooling", "1_Pooling")]
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({
        "word_embedding_dimension": 32,
        **{f"pooling_mode_{name}": name == mode for name in ("cls_token", "mean_tokens", "max_tokens")},
        "include_prompt": True,
    }))  # fmt: skip
    tensors = {}
    if dense:
        parts.append(("Dense", "2_Dense"))
        (folder / "2_Dense").mkdir()
        (folder / "2_Dense" / "config.json").write_text(json.dumps({
            "in_features": 32, "out_features": dense, "bias": True,
            "activation_function": "torch.nn.modules.activation.Tanh",
        }))  # fmt: skip
        tensors = {"linear.weight": torch.randn(dense, 32), "linear.bias": torch.randn(dense)}
        safetensors.torch.save_file(tensors, folder / "2_Dense" / "model.safetensors")
    if normalize:
        parts.append(("Normalize", "3_Normalize"))
    (folder / "modules.json").write_text(json.dumps([
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (kind, path) in enumerate(parts)
    ]))  # fmt: skip
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 16, "do_lower_case": False}))
    return network, tensors
