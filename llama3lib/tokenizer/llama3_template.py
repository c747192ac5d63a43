"""Meta's dialog format as a Jinja template, for folders that transformers and vLLM open.

It writes what `ChatFormat` writes. One difference is left: `tojson` keeps letters beyond ASCII in
the arguments of a call as they are.
"""

from dataclasses import replace

from llama3lib.tokenizer import special
from llama3lib.tokenizer.tokenizer import Tokenizer

LLAMA3_TEMPLATE = (
    "{{- bos_token }}{%- for message in messages -%}"
    "{{- '" + special.START_HEADER + "' -}}"
    "{{- 'ipython' if message.role == 'tool' else message.role -}}"
    "{{- '" + special.END_HEADER + "\\n\\n' -}}"
    "{%- if message.content is string -%}{{- message.content -}}"
    "{%- else -%}{%- for part in message.content or [] -%}{{- part.text -}}{%- endfor -%}"
    "{%- endif -%}"
    "{%- for call in message.tool_calls or [] -%}"
    "{%- set f = call.function if call.function is defined else call -%}"
    "{%- if f.name == 'code_interpreter' -%}"
    "{{- '" + special.PYTHON_TAG + "' + f.arguments.code -}}"
    "{%- elif f.name in ['brave_search', 'wolfram_alpha'] -%}"
    "{{- f.name + '.call(query=' + f.arguments.query | tojson + ')' -}}"
    "{%- else -%}"
    '{{- \'{"type": "function", "name": \' + f.name | tojson -}}'
    "{{- ', \"parameters\": ' + f.arguments | tojson + '}' -}}"
    "{%- endif -%}{%- endfor -%}"
    "{{- '" + special.END_OF_MESSAGE + "' if message.stop_reason == 'end_of_message'"
    " else '" + special.END_OF_TURN + "' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    "{{- '" + special.START_HEADER + "assistant" + special.END_HEADER + "\\n\\n' -}}"
    "{%- endif -%}"
)


def with_chat_template(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer with this template in its rules, unless it has one of its own.

    What is saved with it says how its dialogs are written; nothing else about it changes.
    """
    if not tokenizer.rules.chat_templates:
        templates = {"default": LLAMA3_TEMPLATE}
        tokenizer.rules = replace(tokenizer.rules, chat_templates=templates)
    return tokenizer
