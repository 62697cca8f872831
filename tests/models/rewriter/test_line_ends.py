"""The tokens at which a rewrite ends."""

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from models.rewriter.base_model import find_checkpoint
from models.rewriter.vllm_tokenizers import line_ends


def test_a_vocabulary_of_text() -> None:
    """Gemma has runs of line breaks, the byte, and a letter that stands for it elsewhere."""
    tokenizer = AutoTokenizer.from_pretrained(find_checkpoint("gemma3-270m"))
    texts = [tokenizer.decode([token]) for token in line_ends(tokenizer)]
    assert set(texts) == {"\n" * count for count in range(1, 32)}
    assert line_ends(tokenizer)[0] == tokenizer.encode("\n", add_special_tokens=False)[0]


def test_a_vocabulary_of_bytes() -> None:
    """As in Qwen or Llama, a token may hold a mark and the line break behind it."""
    bpe = Tokenizer(BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    lines = ["a horse.\n", "a guitar.\n", "a red house.\n\n"] * 20
    bpe.train_from_iterator(lines, BpeTrainer(vocab_size=300, initial_alphabet=alphabet))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe)
    ends = set(line_ends(tokenizer))
    every = range(len(tokenizer))
    assert ends == {token for token in every if "\n" in tokenizer.decode([token])}
    assert len(ends) > 1
