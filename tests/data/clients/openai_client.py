"""What the openai package makes of a server: openai_client.py URL/v1. Ends with an assertion where something is not as it must be."""
import asyncio
import sys

import openai

QUESTION = "Tom has 3 apples and buys 4 more. How many apples has he now?"
MESSAGES = [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]

client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0)
model = client.models.list().data[0].id

# Whole and streamed, with usage and log-probabilities.
whole = client.chat.completions.create(model=model, messages=MESSAGES, temperature=0, logprobs=True, top_logprobs=2)
text = whole.choices[0].message.content
assert "#### 7" in text and whole.choices[0].finish_reason == "stop", whole
content = whole.choices[0].logprobs.content
assert len(content) == whole.usage.completion_tokens and len(content[0].top_logprobs) == 2
assert content[0].logprob == content[0].top_logprobs[0].logprob
chunks = list(client.chat.completions.create(
    model=model, messages=MESSAGES, temperature=0, stream=True, stream_options={"include_usage": True}))
assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens and chunks[-1].choices == []

# Several prompts, several choices, an echo.
many = client.completions.create(model=model, prompt=["a", "b"], n=2, max_tokens=3, logprobs=1, echo=True, seed=1)
assert [choice.index for choice in many.choices] == [0, 1, 2, 3]
assert all(choice.text.startswith("aabb"[choice.index]) for choice in many.choices)
assert many.choices[0].logprobs.token_logprobs[0] is None

# Errors, each as its own exception with the field at fault.
for arguments, kind, field in [
    ({"model": "another"}, openai.NotFoundError, "model"),
    ({"temperature": -1}, openai.BadRequestError, "temperature"),
    ({"n": 0}, openai.BadRequestError, "n"),
    ({"prompt": "x " * 5000}, openai.BadRequestError, "prompt"),
]:
    try:
        client.completions.create(**{"model": model, "prompt": "x", **arguments})
    except kind as error:
        assert error.param == field, error
    else:
        raise AssertionError(f"{arguments} was taken")


async def together():
    """Many at once say what one says."""
    many = openai.AsyncOpenAI(base_url=sys.argv[1], api_key="none")
    asked = [many.chat.completions.create(model=model, messages=MESSAGES, temperature=0) for _ in range(24)]
    return {answer.choices[0].message.content for answer in await asyncio.gather(*asked)}


assert asyncio.run(together()) == {text}
print("ok")
