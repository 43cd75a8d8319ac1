//! Which folders and buckets statements and plans may touch.
//!
//! There are two gates, and [`Roots`] is both. [`Roots::admit_plan`] looks at the addresses that a plan names,
//! before anything runs; [`Roots::confine`] puts itself around an object store, so that what no plan shows (a
//! symbolic link, a file that a listing finds, a plan that came ready-made) is refused when it is opened, in the
//! server and in every executor.

use std::cell::Cell;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Component, Path as FilePath, PathBuf};
use std::sync::Arc;

use datafusion::catalog::default_table_source::source_as_provider;
use datafusion::catalog::view::ViewTable;
use datafusion::common::config::{ConfigEntry, ConfigExtension, ExtensionOptions};
use datafusion::common::plan_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::TableProvider;
use datafusion::datasource::listing::{ListingTable, ListingTableUrl};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use object_store::ObjectStore;
use object_store::path::Path;
use url::Url;

use super::address::{self, Service, without_keys};
use super::confined::Confined;
use crate::config::SessionOptions;
use crate::error::{Result, SinewError};
use crate::session::MOST_PARTS;

/// Everything may be touched.
const ANY: &str = "any";
/// Nothing but the warehouse may be touched.
const WAREHOUSE: &str = "warehouse";

/// What is done at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Rows are read.
    Read,
    /// Files are written.
    Write,
}

/// A folder, or a part of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Folder(PathBuf),
    Bucket { key: String, prefix: Path },
}

/// The places that a process may touch.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    /// `None` means everything.
    places: Option<Vec<Place>>,
    never: Vec<PathBuf>,
    warehouse: Option<Place>,
}

impl Roots {
    /// Those of a process with these options; everything, where they name none.
    ///
    /// # Errors
    /// When a root is no folder and no address of a store.
    pub fn of(options: &SessionOptions) -> Result<Self> {
        match options.roots() {
            None => Ok(Self::default()),
            Some(text) => Self::parse(text, options.warehouse()),
        }
    }

    /// The places of a list with commas, and the warehouse at `warehouse`.
    ///
    /// # Errors
    /// As for [`Self::of`].
    pub fn parse(text: &str, warehouse: &str) -> Result<Self> {
        let warehouse = if warehouse.starts_with("memory:") { "memory://warehouse" } else { warehouse };
        let warehouse = Place::parse(warehouse)?;
        let (mut places, mut never, mut any) = (vec![warehouse.clone()], Vec::new(), false);
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part.strip_prefix('!') {
                Some(part) => match Place::parse(part)? {
                    Place::Folder(path) => never.push(path),
                    Place::Bucket { .. } => return Err(wrong(part, "only folders and files can be forbidden with !")),
                },
                None if part == ANY => any = true,
                None if part == WAREHOUSE => {}
                None => places.push(Place::parse(part)?),
            }
        }
        Ok(Self { places: (!any).then_some(places), never, warehouse: Some(warehouse) })
    }

    /// Whether nothing is refused.
    pub fn everything(&self) -> bool {
        self.places.is_none() && self.never.is_empty()
    }

    /// What may not be touched inside of the roots.
    pub(super) fn forbidden(&self) -> &[PathBuf] {
        &self.never
    }

    /// Whether a file or folder may be touched; links are followed first.
    ///
    /// # Errors
    /// When it may not.
    pub fn admit_path(&self, path: &FilePath) -> Result<()> {
        let outside = || self.outside(&path.display());
        let real = real(path).map_err(|_| outside())?;
        let inside = self.places.as_ref().is_none_or(|places| {
            places.iter().any(|place| matches!(place, Place::Folder(folder) if real.starts_with(folder)))
        });
        let forbidden = self.never.iter().any(|never| real.starts_with(never));
        if inside && !forbidden { Ok(()) } else { Err(outside()) }
    }

    /// Whether an object, or all objects below a prefix, of the store `key` may be touched.
    ///
    /// # Errors
    /// When it may not.
    pub fn admit_object(&self, key: &str, path: &Path) -> Result<()> {
        let inside = self.places.as_ref().is_none_or(|places| places.iter().any(|place| place.holds(key, path)));
        if inside { Ok(()) } else { Err(self.outside(&format!("{key}/{path}"))) }
    }

    /// Whether a table, a statement or a plan may name an address. Files of the warehouse are read by their
    /// address as well, and written only as tables and models.
    ///
    /// # Errors
    /// When it may not.
    pub fn admit(&self, url: &ListingTableUrl, access: Access) -> Result<()> {
        if self.places.is_none() && self.never.is_empty() {
            return Ok(());
        }
        let address: &Url = url.get_url();
        let Some(service) = Service::of(address.scheme()) else {
            return Err(self.outside(&without_keys(url.as_str())));
        };
        let ours = match service {
            Service::Local => {
                let path = local_path(url.prefix());
                self.admit_path(&path)?;
                matches!((&self.warehouse, real(&path)), (Some(Place::Folder(w)), Ok(real)) if real.starts_with(w))
            }
            _ => {
                let key = plain_key(address);
                self.admit_object(&key, url.prefix())?;
                self.warehouse.as_ref().is_some_and(|place| place.holds(&key, url.prefix()))
            }
        };
        if ours && access == Access::Write {
            let reason =
                "belongs to the warehouse, whose files are written by INSERT, CREATE TABLE and TRAIN MODEL only";
            return Err(SinewError::Outside { address: without_keys(url.as_str()), reason: reason.into() });
        }
        Ok(())
    }

    /// Whether a plan may name all the addresses it names, below subqueries and views too.
    ///
    /// # Errors
    /// When it names one that may not be touched.
    pub fn admit_plan(&self, plan: &LogicalPlan) -> Result<()> {
        self.admit_parts(plan, &Cell::new(0))
    }

    /// As [`Self::admit_plan`], where `parts` were looked at before.
    fn admit_parts(&self, plan: &LogicalPlan, parts: &Cell<usize>) -> Result<()> {
        if self.everything() {
            return Ok(());
        }
        let mut refused = Ok(());
        plan.apply_with_subqueries(|node| {
            parts.set(parts.get() + 1);
            if parts.get() > MOST_PARTS {
                return plan_err!("the statement has more than {MOST_PARTS} parts, its views written out");
            }
            refused = self.admit_node(node, parts);
            Ok(if refused.is_ok() { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
        })?;
        refused
    }

    fn admit_node(&self, node: &LogicalPlan, parts: &Cell<usize>) -> Result<()> {
        let named = |text: &str, access| self.admit(&ListingTableUrl::parse(text)?, access);
        match node {
            LogicalPlan::TableScan(scan) => match source_as_provider(&scan.source) {
                Ok(provider) => self.admit_table(&provider, Access::Read, parts),
                Err(_) => Ok(()),
            },
            LogicalPlan::Dml(dml) => match source_as_provider(&dml.target) {
                Ok(provider) => self.admit_table(&provider, Access::Write, parts),
                Err(_) => Ok(()),
            },
            LogicalPlan::Copy(copy) => named(&copy.output_url, Access::Write),
            LogicalPlan::Ddl(DdlStatement::CreateExternalTable(command)) => {
                command.locations.iter().try_for_each(|location| named(location, Access::Read))
            }
            _ => Ok(()),
        }
    }

    fn admit_table(&self, table: &Arc<dyn TableProvider>, access: Access, parts: &Cell<usize>) -> Result<()> {
        if let Some(listing) = table.downcast_ref::<ListingTable>() {
            return listing.table_paths().iter().try_for_each(|url| self.admit(url, access));
        }
        match table.downcast_ref::<ViewTable>() {
            Some(view) => self.admit_parts(view.logical_plan(), parts),
            None => Ok(()),
        }
    }

    /// The store at `url`, of which only the roots can be reached.
    pub fn confine(self: &Arc<Self>, url: &Url, store: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        match (self.everything(), Service::of(url.scheme())) {
            (true, _) => store,
            (false, Some(Service::Local)) => Arc::new(Confined::new(store, Arc::clone(self), None)),
            (false, _) => Arc::new(Confined::new(store, Arc::clone(self), Some(plain_key(url)))),
        }
    }

    fn outside(&self, address: &dyn fmt::Display) -> SinewError {
        // Where secrets lie is nobody's business.
        let mut may: Vec<String> = self.places.iter().flatten().map(ToString::to_string).collect();
        may.dedup();
        let may = if may.is_empty() { "some files of its own excepted".into() } else { may.join(", ") };
        let reason =
            format!("is not among what this server may touch ({may}); --roots, where it starts, says what it may");
        SinewError::Outside { address: address.to_string(), reason }
    }
}

/// As [`Roots::parse`] reads it, from whatever folder.
impl fmt::Display for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = match &self.places {
            None => vec![ANY.to_string()],
            Some(places) => places.iter().map(ToString::to_string).collect(),
        };
        parts.extend(self.never.iter().map(|path| format!("!{}", Place::Folder(path.clone()))));
        f.write_str(&parts.join(","))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) if path.to_str().is_some_and(|path| !path.contains([',', '%'])) => {
                write!(f, "{}", path.display())
            }
            Self::Folder(path) => {
                let url = Url::from_file_path(path).map(|url| url.to_string()).unwrap_or_default();
                f.write_str(&url.replace(',', "%2C"))
            }
            Self::Bucket { key, prefix } => write!(f, "{key}/{prefix}"),
        }
    }
}

impl Place {
    fn parse(text: &str) -> Result<Self> {
        let folder = |path: &FilePath| {
            let path = std::path::absolute(path).map_err(|e| wrong(text, &e.to_string()))?;
            Ok(Self::Folder(real(&path).map_err(|e| wrong(text, &e.to_string()))?))
        };
        if !text.contains("://") {
            return folder(FilePath::new(text));
        }
        let url = Url::parse(text).map_err(|e| wrong(text, &format!("it is no address: {e}")))?;
        if url.scheme() == "file" {
            let path = url.to_file_path().map_err(|()| wrong(text, "write it as file:///folder"))?;
            return folder(&path);
        }
        address::bucket(&url)?;
        let prefix = Path::from_url_path(url.path()).map_err(|e| wrong(text, &e.to_string()))?;
        Ok(Self::Bucket { key: plain_key(&url), prefix })
    }

    /// Whether an object of the store `key` lies here.
    fn holds(&self, key: &str, path: &Path) -> bool {
        matches!(self, Self::Bucket { key: own, prefix } if own == key && path.prefix_matches(prefix))
    }
}

fn wrong(text: &str, reason: &str) -> SinewError {
    let expected = format!("{reason}; write folders and addresses such as s3://bucket/folder, with commas between");
    SinewError::Config { name: "--roots".into(), value: without_keys(text), expected }
}

/// The part of an address that names its store, the same for schemes that mean the same.
fn plain_key(url: &Url) -> String {
    let key = address::key(url);
    match key.split_once("://") {
        Some(("s3a", rest)) => format!("s3://{rest}"),
        Some(("gcs", rest)) => format!("gs://{rest}"),
        Some(("azure", rest)) => format!("az://{rest}"),
        _ => key,
    }
}

/// Where the store of local files has a path.
pub(crate) fn local_path(path: &Path) -> PathBuf {
    let mut url = match Url::parse("file:///") {
        Ok(url) => url,
        Err(_) => return PathBuf::from("/"),
    };
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path.parts());
    }
    url.to_file_path().unwrap_or_else(|()| PathBuf::from("/"))
}

/// A path without links; what is not there yet is taken as it is written.
fn real(path: &FilePath) -> std::io::Result<PathBuf> {
    let refused = || std::io::Error::from(ErrorKind::PermissionDenied);
    let mut rest = Vec::new();
    for there in path.ancestors() {
        match there.canonicalize() {
            Ok(real) => return Ok(rest.iter().rev().fold(real, |path: PathBuf, part| path.join(part))),
            // A link that leads nowhere may lead somewhere when it is followed.
            Err(_) if there.is_symlink() => return Err(refused()),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => return Err(error),
        }
        match there.components().next_back() {
            Some(Component::Normal(name)) => rest.push(name.to_os_string()),
            _ => return Err(refused()),
        }
    }
    Err(refused())
}

/// The roots of the session that a plan comes from, as they travel with it: an executor keeps to them as well
/// as to its own.
#[derive(Clone, Debug, Default)]
pub struct Travelling {
    roots: Option<String>,
}

impl Travelling {
    /// The roots as they came; empty where a task brings none.
    pub fn text(&self) -> &str {
        self.roots.as_deref().unwrap_or_default()
    }

    /// The roots that a task brings; everything where it brings none.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn roots(&self, options: &SessionOptions) -> Result<Roots> {
        match &self.roots {
            None => Ok(Roots::default()),
            Some(text) => Roots::parse(text, options.warehouse()),
        }
    }
}

impl ConfigExtension for Travelling {
    const PREFIX: &'static str = "sinew";
}

impl ExtensionOptions for Travelling {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn std::any::Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), DataFusionError> {
        // The other options are the scheduler's own.
        if key == "roots" && !value.is_empty() {
            self.roots = Some(value.into());
        }
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(result: Result<()>) -> String {
        result.err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn links_and_dots_do_not_lead_out() -> std::result::Result<(), Box<dyn std::error::Error>> {
        let place = tempfile::tempdir()?;
        let (inside, outside) = (place.path().join("in"), place.path().join("out"));
        std::fs::create_dir_all(inside.join("sub"))?;
        std::fs::create_dir(&outside)?;
        std::fs::write(outside.join("x.csv"), "a\n1\n")?;
        std::os::unix::fs::symlink(&outside, inside.join("link"))?;
        std::os::unix::fs::symlink(outside.join("nothing"), inside.join("dangling.csv"))?;
        std::os::unix::fs::symlink(inside.join("sub"), inside.join("fine"))?;
        let list = format!("{},!{}", inside.display(), inside.join("secret").display());
        let roots = Roots::parse(&list, &place.path().join("w").display().to_string())?;
        for fine in ["x.csv", "sub/new/x.csv", "fine/x.csv", ""] {
            assert_eq!(text(roots.admit_path(&inside.join(fine))), "", "{fine}");
        }
        assert!(roots.admit_path(&place.path().join("w/models")).is_ok(), "the warehouse is a root");
        for denied in ["link/x.csv", "link", "../out/x.csv", "sub/../../out", "dangling.csv", "secret", "secret/x"] {
            let text = text(roots.admit_path(&inside.join(denied)));
            assert!(text.starts_with("SINEW-3704") && text.contains("--roots"), "{denied}: {text}");
        }
        for denied in ["/etc/passwd", "/", "/proc/self/environ"] {
            assert!(roots.admit_path(FilePath::new(denied)).is_err(), "{denied}");
        }
        // A sibling whose name only begins the same is no part of it.
        assert!(roots.admit_path(&place.path().join("inner")).is_err());
        Ok(())
    }

    #[test]
    fn addresses_are_compared_part_by_part() -> Result<()> {
        let roots = Roots::parse("s3://b/data, gs://open", "/tmp/none")?;
        let admit = |address: &str, access| roots.admit(&ListingTableUrl::parse(address)?, access);
        for fine in ["s3://b/data/x.parquet", "s3a://b/data/x/", "gs://open/y.csv", "/tmp/none/x.csv"] {
            assert_eq!(text(admit(fine, Access::Read)), "", "{fine}");
        }
        for denied in [
            "s3://b/database/x.parquet",
            "s3://b/",
            "s3://c/data/x",
            "gs://closed/x",
            "s3://b/data/../x",
            "s3://b/data/%2e%2e/x",
            "file:///etc/passwd",
            "/etc/*",
            "http://169.254.169.254/latest/meta-data/",
            "az://c/x",
        ] {
            assert!(text(admit(denied, Access::Read)).starts_with("SINEW-3704"), "{denied}");
        }
        assert!(text(admit("/tmp/none/models/m/x", Access::Write)).contains("warehouse"));
        Ok(())
    }

    #[test]
    fn a_list_reads_as_it_is_written() -> Result<()> {
        for list in ["any", "warehouse", "/srv/a b,s3://b/x,!/srv/a b/c", "any,!/etc", "file:///srv/100%25%2Cx"] {
            let roots = Roots::parse(list, "/srv/w")?;
            let again = Roots::parse(&roots.to_string(), "/elsewhere")?;
            assert!(again.to_string().ends_with(roots.to_string().trim_start_matches("/srv/w,")), "{roots} {again}");
        }
        for wrong in ["ftp://x", "s3://", "!s3://b", "s3://key:secret@b"] {
            assert!(Roots::parse(wrong, "/srv/w").is_err(), "{wrong}");
        }
        Ok(())
    }
}
