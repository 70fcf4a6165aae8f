"""What is known of services without importing their providers, in the order in which keys count."""

from __future__ import annotations

import re

from ipychat.config import Endpoint

KEY_VARIABLES = {
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    "openai": ("OPENAI_API_KEY",),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
}
"""Where the keys of services that have a protocol of their own are found."""
OWN_HOST = re.compile(
    r"https?://([^/?#]*[.@])?(api\.openai\.com|[^/?#.@]+\.openai\.azure\.com)(:\d+)?(/|$)",
    re.IGNORECASE,
)
"""OpenAI's own addresses, and those that Azure serves its models at."""
PRESETS = {
    "openrouter": Endpoint(
        "OpenRouter",
        "https://openrouter.ai/api/v1",
        "OPENROUTER_API_KEY",
        "openrouter/auto",
        "/key",
    ),
    "groq": Endpoint(
        "Groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY", "openai/gpt-oss-120b"
    ),
    "mistral": Endpoint(
        "Mistral",
        "https://api.mistral.ai/v1",
        "MISTRAL_API_KEY",
        "mistral-large-latest",
        asks_usage=False,
        pdf_part="document_url",
    ),
    "deepseek": Endpoint(
        "DeepSeek", "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", "deepseek-flash"
    ),
    "xai": Endpoint("xAI", "https://api.x.ai/v1", "XAI_API_KEY", "grok-4.7"),
    "together": Endpoint(
        "Together", "https://api.together.xyz/v1", "TOGETHER_API_KEY", "openai/gpt-oss-120b"
    ),
    "fireworks": Endpoint(
        "Fireworks",
        "https://api.fireworks.ai/inference/v1",
        "FIREWORKS_API_KEY",
        "accounts/fireworks/models/glm-5p3",
    ),
    "huggingface": Endpoint(
        "Hugging Face", "https://router.huggingface.co/v1", "HF_TOKEN", "openai/gpt-oss-120b"
    ),
    "cerebras": Endpoint("Cerebras", "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    "perplexity": Endpoint("Perplexity", "https://api.perplexity.ai", "PERPLEXITY_API_KEY"),
    "zai": Endpoint("Z.ai", "https://api.z.ai/api/paas/v4", "ZAI_API_KEY"),
    "dashscope": Endpoint(
        "DashScope", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "DASHSCOPE_API_KEY"
    ),
    "moonshot": Endpoint("Moonshot", "https://api.moonshot.ai/v1", "MOONSHOT_API_KEY"),
    "minimax": Endpoint("MiniMax", "https://api.minimax.io/v1", "MINIMAX_API_KEY"),
    "nvidia": Endpoint("NVIDIA", "https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY"),
    "sambanova": Endpoint("SambaNova", "https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
    "deepinfra": Endpoint("DeepInfra", "https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
    "lmstudio": Endpoint("LM Studio", "http://127.0.0.1:1234/v1"),
    "vllm": Endpoint("vLLM", "http://127.0.0.1:8000/v1"),
    "llamacpp": Endpoint("llama.cpp", "http://127.0.0.1:8080/v1", "", "default"),
    "jan": Endpoint("Jan", "http://127.0.0.1:1337/v1"),
}
"""Services that speak OpenAI's protocol."""
