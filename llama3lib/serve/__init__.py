"""An HTTP server with OpenAI's interface over the engine; `llama3lib.cli` starts it."""
