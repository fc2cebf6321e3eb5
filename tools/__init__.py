"""Commands that are not part of the library: demonstration, nightly checks, profiling, quality, tables."""
