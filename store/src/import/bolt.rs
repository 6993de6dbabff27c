//! Reading a bbolt file: what an etcd keeps its data in. Only reading, and only what walking a bucket takes.
//!
//! A file is pages of one size. Page 0 and page 1 are two copies of the meta page, of which the newer one whose checksum
//! fits counts. It names the page of the root bucket, a B+ tree whose leaves hold the other buckets: each a page of its
//! own tree or, when it is small, a page inside the value. All numbers are little endian.
//!
//! The file may hold any bytes: every place and length is checked, no more is read than a tree that has each page once,
//! and no more than one page on the way down is held at a time.

use std::io;

use crate::disk::damaged;

const PAGE_HEAD_BYTES: usize = 16;
const ELEMENT_BYTES: usize = 16;
/// Root page and sequence number, in front of an inline page.
const BUCKET_BYTES: usize = 16;
const META_BYTES: usize = 64;
const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

const BRANCH: u16 = 1;
const LEAF: u16 = 2;
/// Of a leaf's element: its value is a bucket.
const IS_BUCKET: u32 = 1;

const PAGE_BYTES_MIN: u64 = 512;
const PAGE_BYTES_MAX: u64 = 1 << 20;
/// Longest run of pages that is read at once: etcd's largest request is far smaller.
const RUN_BYTES_MAX: u64 = 256 << 20;
/// Of a page that comes from within a value.
const INLINE: u64 = 0;

/// Bytes at places.
pub(super) trait Source {
    /// Fills the buffer or fails.
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// An open file.
pub(super) struct Bolt<'a> {
    source: &'a dyn Source,
    size_bytes: u64,
    page_bytes: u64,
    root: u64,
}

/// A bucket's tree.
#[derive(Debug)]
pub(super) enum Bucket {
    Page(u64),
    /// The page itself, and its place in the file.
    Inline(Vec<u8>, u64),
}

/// A key with its value, which begins at this place of the file.
#[derive(Debug)]
pub(super) struct Pair<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) value_at: u64,
    is_bucket: bool,
}

impl<'a> Bolt<'a> {
    pub(super) fn open(source: &'a dyn Source, size_bytes: u64) -> io::Result<Bolt<'a>> {
        let meta = |at: u64| {
            let mut page = [0; PAGE_HEAD_BYTES + META_BYTES];
            source.read_at(at, &mut page).ok()?;
            Meta::read(&page[PAGE_HEAD_BYTES..])
        };
        let first = meta(0);
        // Where the first copy is lost, the size of pages is, too.
        let sizes = match &first {
            Some(meta) => vec![meta.page_bytes],
            None => (9..=20).map(|power| 1 << power).collect(),
        };
        let second = sizes
            .into_iter()
            .find_map(|size| meta(size).filter(|meta| meta.page_bytes == size));
        let newest = first
            .into_iter()
            .chain(second)
            .max_by_key(|meta| meta.transaction);
        let meta = newest.ok_or_else(|| damaged("it has no meta page whose checksum fits"))?;
        Ok(Bolt {
            source,
            size_bytes,
            page_bytes: meta.page_bytes,
            root: meta.root,
        })
    }

    /// The bucket of this name, at the top.
    pub(super) fn bucket(&self, name: &[u8]) -> io::Result<Option<Bucket>> {
        let mut found = None;
        self.walk(&Bucket::Page(self.root), &mut |pair| {
            if pair.is_bucket && pair.key == name {
                found = Some(bucket(&pair)?);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Shows all pairs of a bucket, in order of the keys.
    pub(super) fn walk(
        &self,
        bucket: &Bucket,
        visit: &mut dyn FnMut(Pair<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut last: Option<Vec<u8>> = None;
        let mut ascending = |pair: Pair<'_>| {
            if last.as_deref().is_some_and(|last| last >= pair.key) {
                return Err(damaged("keys are out of order"));
            }
            last = Some(pair.key.to_vec());
            visit(pair)
        };
        let mut waiting = match bucket {
            Bucket::Page(id) => vec![*id],
            Bucket::Inline(page, at) => {
                let page = Page::of(page.clone(), INLINE, *at)?;
                return page.pairs(&mut ascending);
            }
        };
        // A tree has each page once, those of a run included; more would be a circle.
        let mut left = self.size_bytes / self.page_bytes;
        while let Some(id) = waiting.pop() {
            let page = self.page(id)?;
            left = left
                .checked_sub(page.bytes.len() as u64 / self.page_bytes)
                .ok_or_else(|| damaged("its tree has a circle"))?;
            match page.kind {
                LEAF => page.pairs(&mut ascending)?,
                _ => {
                    let children = page.children()?;
                    if children.len() as u64 + waiting.len() as u64 > left {
                        return Err(damaged("its tree has more pages than the file"));
                    }
                    waiting.extend(children.into_iter().rev());
                }
            }
        }
        Ok(())
    }

    fn page(&self, id: u64) -> io::Result<Page> {
        let outside = || damaged(format!("page {id} is not in the file"));
        let at = id.checked_mul(self.page_bytes).ok_or_else(outside)?;
        let mut head = [0; PAGE_HEAD_BYTES];
        self.read(at, &mut head)?;
        let pages = u64::from(u32_at(&head, 12)?) + 1;
        let bytes = pages * self.page_bytes;
        let end = at.checked_add(bytes).ok_or_else(outside)?;
        if bytes > RUN_BYTES_MAX || end > self.size_bytes {
            return Err(outside());
        }
        let mut page = vec![0; bytes as usize];
        self.read(at, &mut page)?;
        Page::of(page, id, at)
    }

    fn read(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = at.checked_add(buffer.len() as u64);
        match end.is_some_and(|end| end <= self.size_bytes) {
            true => self.source.read_at(at, buffer),
            false => Err(damaged("a page is beyond the end")),
        }
    }
}

fn bucket(pair: &Pair<'_>) -> io::Result<Bucket> {
    let root = u64_at(pair.value, 0)?;
    if root != INLINE {
        return Ok(Bucket::Page(root));
    }
    let page = pair.value.get(BUCKET_BYTES..);
    let page = page.ok_or_else(|| damaged("a bucket is cut short"))?;
    Ok(Bucket::Inline(
        page.to_vec(),
        pair.value_at + BUCKET_BYTES as u64,
    ))
}

/// What of a meta page is needed.
#[derive(Debug)]
struct Meta {
    page_bytes: u64,
    root: u64,
    transaction: u64,
}

impl Meta {
    fn read(meta: &[u8]) -> Option<Meta> {
        let page_bytes = u64::from(u32_at(meta, 8).ok()?);
        let known = u32_at(meta, 0).ok()? == MAGIC && u32_at(meta, 4).ok()? == VERSION;
        let whole = fnv1a(meta.get(..56)?) == u64_at(meta, 56).ok()?;
        let sized =
            page_bytes.is_power_of_two() && (PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&page_bytes);
        (known && whole && sized).then_some(Meta {
            page_bytes,
            root: u64_at(meta, 16).ok()?,
            transaction: u64_at(meta, 48).ok()?,
        })
    }
}

/// FNV-1a of 64 bits, which bbolt's meta pages are checked with.
fn fnv1a(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold)
}

/// A page of a tree.
struct Page {
    bytes: Vec<u8>,
    /// In the file.
    at: u64,
    kind: u16,
    count: usize,
}

impl Page {
    fn of(bytes: Vec<u8>, id: u64, at: u64) -> io::Result<Page> {
        let kind = u16_at(&bytes, 8)?;
        if u64_at(&bytes, 0)? != id || (kind != BRANCH && kind != LEAF) {
            return Err(damaged(format!("page {id} is not one of a tree")));
        }
        // Within a value there is no room for more than a leaf.
        if id == INLINE && kind != LEAF {
            return Err(damaged("a bucket within a page has a tree"));
        }
        let count = usize::from(u16_at(&bytes, 10)?);
        Ok(Page {
            bytes,
            at,
            kind,
            count,
        })
    }

    fn children(&self) -> io::Result<Vec<u64>> {
        let child = |index| u64_at(&self.bytes, element(index) + 8);
        (0..self.count).map(child).collect()
    }

    fn pairs(&self, visit: &mut dyn FnMut(Pair<'_>) -> io::Result<()>) -> io::Result<()> {
        for index in 0..self.count {
            visit(self.pair(index)?)?;
        }
        Ok(())
    }

    fn pair(&self, index: usize) -> io::Result<Pair<'_>> {
        let element = element(index);
        let number = |at| u32_at(&self.bytes, element + at).map(|number| number as usize);
        let flags = u32_at(&self.bytes, element)?;
        // None of these can overflow: each is of 32 bits.
        let key_at = element + number(4)?;
        let value_at = key_at + number(8)?;
        let end = value_at + number(12)?;
        let cut = || damaged("a pair is beyond its page");
        Ok(Pair {
            key: self.bytes.get(key_at..value_at).ok_or_else(cut)?,
            value: self.bytes.get(value_at..end).ok_or_else(cut)?,
            value_at: self.at + value_at as u64,
            is_bucket: flags & IS_BUCKET != 0,
        })
    }
}

fn element(index: usize) -> usize {
    PAGE_HEAD_BYTES + index * ELEMENT_BYTES
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> io::Result<[u8; N]> {
    let part = bytes.get(at..).and_then(|rest| rest.first_chunk());
    part.copied()
        .ok_or_else(|| damaged("a number is cut short"))
}

fn u16_at(bytes: &[u8], at: usize) -> io::Result<u16> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> io::Result<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> io::Result<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

#[cfg(test)]
pub(super) mod build {
    //! Making small files, as far as reading them needs.

    use super::*;

    const PAGE: usize = 4096;

    fn page(id: u64, kind: u16, elements: &[(u32, Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let mut page = Vec::new();
        page.extend(id.to_le_bytes());
        page.extend(kind.to_le_bytes());
        page.extend((elements.len() as u16).to_le_bytes());
        page.extend(0_u32.to_le_bytes());
        let mut data: Vec<u8> = Vec::new();
        for (index, (flags, key, value)) in elements.iter().enumerate() {
            let place = (elements.len() - index) * ELEMENT_BYTES + data.len();
            match kind {
                // A branch's value is the number of the child.
                BRANCH => {
                    page.extend((place as u32).to_le_bytes());
                    page.extend((key.len() as u32).to_le_bytes());
                    page.extend(value);
                    data.extend(key);
                }
                _ => {
                    for number in [*flags, place as u32, key.len() as u32, value.len() as u32] {
                        page.extend(number.to_le_bytes());
                    }
                    data.extend(key);
                    data.extend(value);
                }
            }
        }
        page.extend(data);
        page
    }

    fn whole(mut page: Vec<u8>) -> Vec<u8> {
        let pages = page.len().div_ceil(PAGE);
        page.resize(pages * PAGE, 0);
        page[12..16].copy_from_slice(&(pages as u32 - 1).to_le_bytes());
        page
    }

    fn meta(id: u64, root: u64, transaction: u64) -> Vec<u8> {
        let mut meta = Vec::new();
        for number in [MAGIC, VERSION, PAGE as u32, 0] {
            meta.extend(number.to_le_bytes());
        }
        for number in [root, 0, 2, 100, transaction] {
            meta.extend(number.to_le_bytes());
        }
        meta.extend(fnv1a(&meta).to_le_bytes());
        whole([page(id, 4, &[]), meta].concat())
    }

    type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

    /// A database with these buckets; the pairs of those that are not inline stand in leaves of so many pairs below one
    /// branch.
    pub(in crate::import) fn file(buckets: &[(&str, Pairs, bool)], leaf: usize) -> Vec<u8> {
        let mut pages: Vec<u8> = Vec::new();
        let next = |pages: &Vec<u8>| (pages.len() / PAGE) as u64 + 3;
        let elements = |pairs: &[(Vec<u8>, Vec<u8>)]| -> Vec<(u32, Vec<u8>, Vec<u8>)> {
            pairs
                .iter()
                .map(|(key, value)| (0, key.clone(), value.clone()))
                .collect()
        };
        let mut top = Vec::new();
        for (name, pairs, inline) in buckets {
            let (root, rest) = if *inline {
                (INLINE, page(INLINE, LEAF, &elements(pairs)))
            } else {
                let mut children = Vec::new();
                for chunk in pairs.chunks(leaf) {
                    let id = next(&pages);
                    children.push((0, chunk[0].0.clone(), id.to_le_bytes().to_vec()));
                    pages.extend(whole(page(id, LEAF, &elements(chunk))));
                }
                let id = next(&pages);
                pages.extend(whole(page(id, BRANCH, &children)));
                (id, Vec::new())
            };
            let value = [&root.to_le_bytes()[..], &[0; 8], &rest].concat();
            top.push((IS_BUCKET, name.as_bytes().to_vec(), value));
        }
        let root = next(&pages);
        pages.extend(whole(page(root, LEAF, &top)));
        [
            meta(0, root, 7),
            meta(1, 1 << 40, 6),
            whole(page(2, 16, &[])),
            pages,
        ]
        .concat()
    }
}
