//! Boots the micro image.
