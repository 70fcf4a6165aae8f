"""What a request weighs: an estimate of its tokens."""

from ipychat.messages import ChatRequest, FilePart, ImagePart

CHARACTERS_A_TOKEN = 4
"""English text and code come to three to five; close enough to decide by."""
TOKENS_AN_IMAGE = 1000
"""Services count 85 to 1,600 by size and detail."""
TOKENS_A_MESSAGE = 4
"""What a message costs beside its text."""


def estimate_tokens(request: ChatRequest) -> int:
    """Estimate how many tokens the messages of `request` have."""
    tokens = 0
    for message in request.messages:
        tokens += TOKENS_A_MESSAGE + len(message.text) // CHARACTERS_A_TOKEN
        for part in message.content if isinstance(message.content, tuple) else ():
            match part:
                case ImagePart():
                    tokens += TOKENS_AN_IMAGE
                case FilePart(data=data):
                    tokens += len(data) // CHARACTERS_A_TOKEN
    return tokens
