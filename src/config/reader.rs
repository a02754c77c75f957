pub(super) struct Problems;
pub(super) struct Section<'a>(&'a ());
