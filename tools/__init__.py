"""What a user of the library never imports: the demonstration, nightly checks, profiling, quality, tables."""
