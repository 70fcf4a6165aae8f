"""A provider in a package of its own: `%%chat --model parrot:loud`."""

import asyncio

from ipychat import FinishReason, Usage
from ipychat.errors import UsageError
from ipychat.providers import AsyncGeneratorProvider, ProviderModelMixin, format_prompt


class Parrot(AsyncGeneratorProvider, ProviderModelMixin):
    """Says again what it was told."""

    label = "Parrot"
    default_model = "quiet"
    models = ["quiet", "loud"]
    ends_with = "finish"  # an answer that ends without a FinishReason was cut off

    @classmethod
    async def create_async_generator(cls, model, messages, *, pause=0.0, **options):
        """Yield the last message word by word, each after `pause` seconds."""
        if pause < 0:
            raise UsageError(f"A parrot can't wait {pause} seconds.")
        text = format_prompt(messages[-1:])  # its text, if images or files are with it, too
        words = (text.upper() if cls.get_model(model) == "loud" else text).split()
        for word in words:
            await asyncio.sleep(pause)
            yield f"{word} "
        yield Usage(input=len(words), output=len(words))
        yield FinishReason("stop")
