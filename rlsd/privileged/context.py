"""The two views of a prompt as chat messages: what the policy reads and what the teacher reads.

The policy's view is made from the prompt's messages alone, so nothing privileged can enter it.
"""

from __future__ import annotations

from rlsd.images.placing import Chat, framed, placed
from rlsd.trajectory import Prompt


def policy_messages(prompt: Prompt) -> Chat:
    """The chat that the policy completes."""
    return placed(prompt.messages, prompt.images)


def teacher_messages(prompt: Prompt, privileged: str, *, template: str) -> Chat:
    """The same chat, with the same images, and the privileged context in its last user turn.

    Args:
        template: text with {prompt} and {privileged}; both are replaced literally, so braces in
            either text are harmless.
    """
    messages = policy_messages(prompt)
    last_user = max(i for i, m in enumerate(messages) if m["role"] == "user")
    before, _, after = template.partition("{prompt}")
    content = framed(
        messages[last_user]["content"],
        before.replace("{privileged}", privileged),
        after.replace("{privileged}", privileged),
    )
    messages[last_user] = {"role": "user", "content": content}
    return messages


def privileged_context(prompt: Prompt) -> str:
    """What the teacher reads when the source is the reference."""
    return prompt.reference if prompt.privileged is None else prompt.privileged
