//! `FROM 'data/x.parquet'`, `FROM 'data/'`, `FROM 'data/*.csv.gz'`: files as tables.
//!
//! A name is taken for a path when it has a `/`, `\`, `.`, `*` or `?`. All files must be of one kind;
//! their columns are merged, and a column that a file does not have is NULL there.

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::catalog::{TableProvider, UrlTableFactory};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::SessionState;
use datafusion::execution::object_store::ObjectStoreUrl;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use parking_lot::RwLock;

use super::delimiter;
use crate::error::{Result, SinewError};
use crate::storage;
use crate::storage::address::without_keys;

/// An ending of files, the format it names, and the option it brings.
type Ending = (&'static str, &'static str, Option<(&'static str, &'static str)>);

/// Endings of files that are data.
const KINDS: [Ending; 6] = [
    ("parquet", "parquet", None),
    ("csv", "csv", None),
    ("tsv", "csv", Some(("format.delimiter", "\t"))),
    ("json", "json", None),
    ("ndjson", "json", None),
    ("jsonl", "json", None),
];
/// Endings of compressed files, and how DataFusion calls the method.
const COMPRESSIONS: [(&str, &str); 4] = [("gz", "gzip"), ("bz2", "bzip2"), ("xz", "xz"), ("zst", "zstd")];

/// Whether a table's name is meant as a path.
pub fn looks_like_path(name: &str) -> bool {
    name.contains(['/', '\\', '.', '*', '?'])
}

/// Makes a table of a path.
#[derive(Debug, Default)]
pub struct FileTables {
    state: OnceLock<Weak<RwLock<SessionState>>>,
}

impl FileTables {
    /// Tells which session reads the files.
    pub fn bind(&self, state: Weak<RwLock<SessionState>>) {
        let _ = self.state.set(state);
    }
}

#[async_trait]
impl UrlTableFactory for FileTables {
    async fn try_new(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        if !looks_like_path(name) {
            return Ok(None);
        }
        let Some(state) = self.state.get().and_then(Weak::upgrade).map(|state| state.read().clone()) else {
            return Ok(None);
        };
        Ok(Some(open(&state, name).await?))
    }
}

/// How a group of files is read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    format: &'static str,
    option: Option<(&'static str, &'static str)>,
    compression: Option<&'static str>,
    /// The whole ending as written, such as `csv.gz`.
    ending: String,
}

/// The kind of a file by its name; `None` for endings that are not data.
fn kind_of(file: &str) -> Option<Kind> {
    let (stem, last) = file.rsplit_once('.')?;
    let compression = COMPRESSIONS.iter().find(|(ending, _)| last.eq_ignore_ascii_case(ending)).map(|(_, name)| *name);
    let (kind, ending) = match compression {
        Some(_) => {
            let inner = stem.rsplit_once('.')?.1;
            (inner, format!("{inner}.{last}"))
        }
        None => (last, last.to_string()),
    };
    let (_, format, option) = KINDS.iter().find(|(name, ..)| kind.eq_ignore_ascii_case(name))?;
    Some(Kind { format, option: *option, compression, ending })
}

/// A path or address, the part from the first `*` or `?` on taken as a pattern.
fn parse(name: &str) -> DataFusionResult<ListingTableUrl> {
    let Some((scheme, rest)) = name.split_once("://").filter(|(scheme, _)| *scheme != "file") else {
        return ListingTableUrl::parse(name);
    };
    match rest.find(['*', '?']).and_then(|at| rest[..at].rfind('/')) {
        Some(folder) => {
            let (folder, pattern) = rest.split_at(folder + 1);
            ListingTableUrl::parse(format!("{scheme}://{folder}"))?.with_glob(pattern)
        }
        None => ListingTableUrl::parse(name),
    }
}

async fn open(state: &SessionState, name: &str) -> Result<Arc<dyn TableProvider>> {
    let refuse = |reason: String| SinewError::File { path: without_keys(name), reason, source: None };
    let url = parse(name).map_err(|e| refuse(SinewError::from(e).to_string()))?;
    if storage::Service::of(url.scheme()).is_none() {
        return Err(SinewError::NotAvailable {
            what: format!("reading {}:// addresses", url.scheme()),
            hint: "copy the files to a local folder or an object store (s3://, gs://, az://)".into(),
        });
    }
    let place = url.object_store();
    let store = state.runtime_env().object_store(&place)?;
    let files = list(state, &store, &url).await.map_err(|e| match coded(&e) {
        true => SinewError::from(e),
        false => refuse(reason(&e)),
    })?;
    let kind = one_kind(name, &files)?;
    let mut options: HashMap<String, String> = HashMap::new();
    options.extend(kind.compression.map(|c| ("format.compression".to_string(), c.to_string())));
    options.extend(kind.option.map(|(k, v)| (k.to_string(), v.to_string())));
    let chosen: Vec<ObjectMeta> = files
        .into_iter()
        .filter(|f| kind_of(f.location.filename().unwrap_or_default()).as_ref() == Some(&kind))
        .collect();
    if kind.format == "json" && kind.compression.is_none() && is_array(&store, &chosen).await {
        options.insert("format.newline_delimited".into(), "false".into());
    }
    if kind.format == "csv" {
        delimiter::add(&mut options, &store, &chosen).await;
    }
    let factory = state
        .get_file_format_factory(kind.format)
        .ok_or_else(|| SinewError::Internal(format!("no file format '{}'", kind.format)))?;
    let format = factory.create(state, &options)?;
    let listing = ListingOptions::new(Arc::clone(&format)).with_file_extension(format!(".{}", kind.ending));
    // A folder or glob may hold other files beside these; the ending keeps them apart.
    let config = ListingTableConfig::new(url).with_listing_options(listing);
    let config = config.infer_partitions_from_path(state).await?;
    if kind.format == "parquet" {
        check_footers(&place, &store, &chosen).await?;
    }
    // One file needs no comparison, and CSV is read by position, so its headers are compared in any case.
    let whole = match kind.format == "csv" && chosen.len() > 1 {
        true => Err(DataFusionError::Plan("columns are compared file by file".into())),
        false => infer(state, &store, format.as_ref(), &chosen).await,
    };
    let schema = match whole {
        Ok(schema) => schema,
        Err(e) if coded(&e) => return Err(e.into()),
        Err(_) => merge(state, &place, &store, format.as_ref(), &chosen, kind.format).await?,
    };
    if schema.fields().is_empty() {
        return Err(refuse("it is empty: there is not even a header to take column names from".into()));
    }
    // A column may be missing in one of the files, whatever the others say.
    let nullable = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
    let schema = Arc::new(Schema::new(nullable.collect::<Vec<_>>()));
    Ok(Arc::new(ListingTable::try_new(config.with_schema(schema))?))
}

/// The files at an address, in the order of their paths.
async fn list(
    state: &SessionState,
    store: &Arc<dyn ObjectStore>,
    url: &ListingTableUrl,
) -> DataFusionResult<Vec<ObjectMeta>> {
    let mut files: Vec<ObjectMeta> = url.list_all_files(state, store.as_ref(), "").await?.try_collect().await?;
    if url.is_collection() {
        // What an interrupted writer left says nothing about columns.
        files.retain(|f| f.size > 0);
    }
    files.sort_by(|a, b| a.location.cmp(&b.location));
    Ok(files)
}

fn one_kind(name: &str, files: &[ObjectMeta]) -> Result<Kind> {
    let refuse = |reason: String| Err(SinewError::File { path: name.into(), reason, source: None });
    let endings = || KINDS.map(|(ending, ..)| format!(".{ending}")).join(", ");
    let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
    for kind in files.iter().filter_map(|f| kind_of(f.location.filename().unwrap_or_default())) {
        *kinds.entry(kind).or_default() += 1;
    }
    let shown: Vec<String> = kinds.iter().map(|(kind, n)| format!("{n} .{}", kind.ending)).collect();
    match (kinds.into_keys().next(), shown.len(), files.is_empty()) {
        (Some(kind), 1, _) => Ok(kind),
        (Some(kind), ..) => refuse(format!(
            "its files are of several kinds ({}); name one kind, as in '{}/*.{}'",
            shown.join(", "),
            name.trim_end_matches('/'),
            kind.ending
        )),
        (None, _, false) => refuse(format!("files are read by their ending, one of {}", endings())),
        (None, _, true) if name.contains(['*', '?']) => refuse("no file matches; check the path".into()),
        (None, _, true) => refuse("there is no such file, or the folder is empty; check the path".into()),
    }
}

/// Whether the first file holds one JSON array rather than one object on each line.
async fn is_array(store: &Arc<dyn ObjectStore>, files: &[ObjectMeta]) -> bool {
    let Some(first) = files.first() else { return false };
    let head = store.get_range(&first.location, 0..first.size.min(1024)).await;
    head.is_ok_and(|bytes| bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'['))
}

/// The columns of these files; a reader that panics on a damaged file gives an error too.
async fn infer(
    state: &SessionState,
    store: &Arc<dyn ObjectStore>,
    format: &dyn FileFormat,
    files: &[ObjectMeta],
) -> DataFusionResult<SchemaRef> {
    match AssertUnwindSafe(format.infer_schema(state, store, files)).catch_unwind().await {
        Ok(schema) => schema,
        Err(_) => Err(DataFusionError::Execution("it is damaged, or no file of this kind".into())),
    }
}

/// A Parquet file ends with the length of its metadata and `PAR1`. The reader trusts that length.
async fn check_footers(place: &ObjectStoreUrl, store: &Arc<dyn ObjectStore>, files: &[ObjectMeta]) -> Result<()> {
    let check = |file: ObjectMeta| async move {
        let refuse = |reason: String| {
            let reason = format!("{reason}; it is cut short or damaged, write it again");
            Err(SinewError::File { path: storage::show(place, &file.location), reason, source: None })
        };
        if file.size < 12 {
            return refuse(format!("a Parquet file has at least 12 bytes, and this one has {}", file.size));
        }
        let read = store.get_range(&file.location, file.size - 8..file.size).await;
        let tail = read.map_err(|e| SinewError::from(DataFusionError::from(e)))?;
        let (length, magic) = tail.split_at(4);
        // PARE marks a file whose metadata is encrypted.
        if !matches!(magic, b"PAR1" | b"PARE") {
            return refuse("it does not end as a Parquet file does".into());
        }
        let length = length.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        if length + 8 > file.size {
            return refuse(format!("its footer names {length} bytes of metadata, and the file has {}", file.size));
        }
        Ok(())
    };
    futures::stream::iter(files.to_vec()).map(check).buffered(16).try_collect().await
}

/// The columns of all files together: one that a file does not have is NULL there, numbers are widened.
/// Names the file, and the column, that keeps the files from being read together.
async fn merge(
    state: &SessionState,
    place: &ObjectStoreUrl,
    store: &Arc<dyn ObjectStore>,
    format: &dyn FileFormat,
    files: &[ObjectMeta],
    kind: &str,
) -> Result<SchemaRef> {
    let mut fields: Vec<FieldRef> = Vec::new();
    let mut first: Option<(String, SchemaRef)> = None;
    for file in files {
        let path = storage::show(place, &file.location);
        let schema = infer(state, store, format, std::slice::from_ref(file)).await.map_err(|e| {
            if coded(&e) {
                return SinewError::from(e);
            }
            let (path, reason) = (path.clone(), reason(&e));
            SinewError::File { path, reason, source: Some(Box::new(e)) }
        })?;
        let refuse = |reason: String| Err(SinewError::File { path: path.clone(), reason, source: None });
        let Some((known_path, known)) = &first else {
            fields.extend(schema.fields().iter().cloned());
            first = Some((path, schema));
            continue;
        };
        if kind == "csv"
            && let Some((at, here, there)) = first_difference(&schema, known)
        {
            return refuse(format!(
                "its column {at} is {here} and that of '{known_path}' is {there}; \
                 CSV files of one table have the same columns in the same order"
            ));
        }
        for field in schema.fields() {
            let Some(other) = fields.iter_mut().find(|f| f.name() == field.name()) else {
                fields.push(Arc::clone(field));
                continue;
            };
            let Some(wide) = widen(other.data_type(), field.data_type(), kind != "parquet") else {
                return refuse(format!(
                    "column '{}' has type {} here and {} in the files before it, such as '{known_path}'; \
                     read the files apart and CAST the column",
                    field.name(),
                    field.data_type(),
                    other.data_type()
                ));
            };
            *other = Arc::new(other.as_ref().clone().with_data_type(wide));
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Number and names of the first column in which two headers differ.
fn first_difference(here: &Schema, there: &Schema) -> Option<(usize, String, String)> {
    let name = |schema: &Schema, at: usize| schema.fields().get(at).map(|f| f.name().clone());
    let shown = |name: Option<String>| name.map_or("missing".into(), |n| format!("'{n}'"));
    let all = here.fields().len().max(there.fields().len());
    let at = (0..all).find(|at| name(here, *at) != name(there, *at))?;
    Some((at + 1, shown(name(here, at)), shown(name(there, at))))
}

/// The type that holds the values of both; `text` files have no more than 15 digits that count.
fn widen(a: &DataType, b: &DataType, text: bool) -> Option<DataType> {
    let small = |t: &DataType| t.is_integer() && t.primitive_width().is_some_and(|w| w <= 4);
    let signed = |t: &DataType| if t.is_signed_integer() { t.primitive_width() } else { None };
    match (a, b) {
        (a, b) if a == b => Some(a.clone()),
        (DataType::Null, other) | (other, DataType::Null) => Some(other.clone()),
        (a, b) if signed(a).is_some() && signed(b).is_some() => {
            Some(if signed(a) >= signed(b) { a.clone() } else { b.clone() })
        }
        (DataType::Float32, DataType::Float64) | (DataType::Float64, DataType::Float32) => Some(DataType::Float64),
        (a, b) if a.is_floating() && (small(b) || text && b.is_integer()) => Some(DataType::Float64),
        (a, b) if b.is_floating() && (small(a) || text && a.is_integer()) => Some(DataType::Float64),
        _ => None,
    }
}

/// Whether an error brings a code of ours, and so its own words and next step: that of an object store.
fn coded(error: &DataFusionError) -> bool {
    reason(error).contains("SINEW-")
}

/// The engine's words for what is wrong with a file.
fn reason(error: &DataFusionError) -> String {
    crate::error::plain_text(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_patterns_as_paths_do() -> DataFusionResult<()> {
        let url = parse("s3://b/data/*.parquet")?;
        assert_eq!((url.prefix().as_ref(), url.is_collection()), ("data", true));
        assert!(url.contains(&"data/a.parquet".into(), false) && !url.contains(&"data/a.csv".into(), false));
        assert_eq!(parse("s3://b/data/a b.csv")?.prefix().as_ref(), "data/a b.csv");
        Ok(())
    }

    #[test]
    fn the_ending_tells_the_kind() {
        let kind = |name| kind_of(name).map(|k| (k.format, k.compression, k.ending));
        assert_eq!(kind("a.b.parquet"), Some(("parquet", None, "parquet".into())));
        assert_eq!(kind("a.CSV.gz"), Some(("csv", Some("gzip"), "CSV.gz".into())));
        assert_eq!(kind("a.jsonl"), Some(("json", None, "jsonl".into())));
        assert_eq!(kind("README.md"), None);
        assert_eq!(kind("a.gz"), None);
        assert!(looks_like_path("data/") && looks_like_path("x.csv") && !looks_like_path("customers"));
    }
}
