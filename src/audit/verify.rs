//! Is the journal whole? Names the first record that is not.
