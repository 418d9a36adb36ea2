//! The server as its users meet it: sockets, paths, websockets, files; over a driver that only pretends.

mod actions;
mod captures;
mod child;
mod client;
mod composition;
mod doors;
mod export;
mod fake;
mod files;
mod follow;
mod images;
mod lab;
mod pages;
#[path = "../../../kvm-compose/tests/disk_images/publisher.rs"]
mod publisher;
mod restart;
mod shape;
mod snapshots;
mod store;
mod upload;
