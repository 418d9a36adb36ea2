//! The server as its users meet it: sockets, paths, websockets, files; over a driver that only pretends.

mod actions;
mod captures;
mod child;
mod client;
mod composition;
mod doors;
mod fake;
mod follow;
mod lab;
mod pages;
mod restart;
mod shape;
mod store;
mod upload;
