"""A provider in a package of its own: `%%chat --model parrot:loud`."""

import asyncio


class Parrot:
    """Says again what it was told. Any class with this one classmethod is a provider."""

    default_model = "quiet"
    models = ["quiet", "loud"]

    @classmethod
    async def create_async_generator(cls, model, messages, **options):
        text = messages[-1]["content"]
        for word in text.upper().split() if model == "loud" else text.split():
            await asyncio.sleep(0)
            yield f"{word} "
