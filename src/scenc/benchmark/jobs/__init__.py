"""How a benchmark is computed: jobs under the key of all they depend on."""
