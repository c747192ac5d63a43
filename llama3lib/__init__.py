"""How a modern language model is really built: "The Llama 3 Herd of Models" as a library."""
